"""What a pairs file reads, and so whether its folder is up to date."""

from pathlib import Path

from apo_soup.config.endpoint import endpoint_address
from apo_soup.config.pairs import PairsFile
from apo_soup.config.sides import OpenaiSide
from apo_soup.hashing import hash_file, hash_value
from apo_soup.runs.chat_template import template_text
from apo_soup.runs.code_hash import code_hash
from apo_soup.runs.sources import model_hash, rows_hash
from apo_soup.runs.stage import Stage
from apo_soup.runs.suite_inputs import verifier_source

# The module that makes pairs.
MAKING = "apo.pairs.make"


def pairs_stage(recipe: PairsFile) -> Stage:
    """The pairs folder with its fingerprint.

    Raises:
        UserError: a model, a template or rows that the file names are not there.
    """
    beside = recipe.path.parent
    rows = [
        rows_hash(source.id, recipe.place(f"prompts.{number}.id"), source.revision, beside)
        for number, source in enumerate(recipe.prompts)
    ]
    inputs = {"prompts": hash_value(rows), "code": code_hash(MAKING)}
    for name, side in (("strong", recipe.strong), ("weak", recipe.weak)):
        if isinstance(side, OpenaiSide):
            inputs[name] = f"{side.model} at {endpoint_address(side).url}"  # nothing more can be known of it
            continue
        template = template_text(side.chat_template, recipe.place(f"{name}.chat_template"), beside)
        if template is not None:
            inputs[f"{name} template"] = hash_value(template)
        inputs[name] = model_hash(side.model, recipe.place(f"{name}.model"), side.revision, beside)
    source_file = verifier_source(recipe.verifier or "")
    if source_file:
        inputs["verifier"] = hash_file(Path(source_file))
    return Stage("pairs", Path(recipe.output_dir), recipe.deciding_values(), inputs)
