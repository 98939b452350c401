"""What a pairs or traces file reads, and so whether its folder is up to date."""

from pathlib import Path

from apo_soup.config.asking import AskingFile
from apo_soup.config.endpoint import EndpointKeys, endpoint_address
from apo_soup.config.judges import EndpointJudge, RewardJudge
from apo_soup.config.sides import LocalSide, SideKeys
from apo_soup.hashing import hash_file, hash_value
from apo_soup.runs.arguments import deciding_arguments
from apo_soup.runs.chat_template import template_text
from apo_soup.runs.code_hash import code_hash
from apo_soup.runs.sources import model_hash, rows_hash
from apo_soup.runs.stage import Stage
from apo_soup.runs.suite_inputs import verifier_source
from apo_soup.runs.upstream import read_by_file

# The modules that make pairs and traces.
MAKING = {"pairs": "apo.pairs.make", "traces": "apo.traces.make"}


def asking_stage(recipe: AskingFile) -> Stage:
    """The folder of pairs or traces with its fingerprint.

    Raises:
        UserError: a model, a template or rows that the file names are not there.
    """
    beside = recipe.path.parent
    rows = [
        rows_hash(source.id, recipe.place(f"prompts.{number}.id"), source.revision, beside)
        for number, source in enumerate(recipe.prompts)
    ]
    inputs = {"prompts": hash_value(rows), "code": code_hash(MAKING[recipe.kind])}
    asked: dict[str, SideKeys | EndpointJudge | RewardJudge] = {**recipe.sides()}
    if recipe.judge is not None:
        asked["judge"] = recipe.judge
    for name, side in asked.items():
        if isinstance(side, EndpointKeys):
            inputs[name] = f"{side.model} at {endpoint_address(side).url}"  # nothing more can be known of it
            if isinstance(side, EndpointJudge):
                inputs[f"{name} template"] = hash_value(side.template)  # also where it is our own
            continue
        assert isinstance(side, LocalSide | RewardJudge)
        template = template_text(side.chat_template, recipe.place(f"{name}.chat_template"), beside)
        if template is not None:
            inputs[f"{name} template"] = hash_value(template)
        inputs[name] = model_hash(side.model, recipe.place(f"{name}.model"), side.revision, beside)
    source_file = verifier_source(recipe.verifier or "")
    if source_file:
        inputs["verifier"] = hash_file(Path(source_file))
    return Stage(
        recipe.kind,
        Path(recipe.output_dir),
        recipe.deciding_values(),
        inputs,
        arguments=deciding_arguments(recipe),
        reads=read_by_file(recipe),
    )
