"""What a pairs file reads, and so whether its folder is up to date."""

from pathlib import Path

from apo_soup.config.pairs import PairsFile
from apo_soup.config.sides import OpenaiSide, endpoint_address
from apo_soup.hashing import hash_file, hash_value
from apo_soup.runs.chat_template import template_text
from apo_soup.runs.code_hash import PROJECT, code_hash
from apo_soup.runs.sources import model_hash, rows_hash
from apo_soup.runs.stage import Stage
from apo_soup.runs.suite_inputs import verifier_source

PACKAGE = PROJECT / "apo_soup"
# Rooms and files that decide what a model is asked and how it answers.
RENDERING_ROOMS = ("apo_soup/data/conversations", "apo_soup/data/rendering")
RENDERING_FILES = ("models/generation.py", "models/tokenizer.py")
# Rooms and files that decide what is a prompt and what is right.
JUDGING_ROOMS = ("apo_soup/data/sources",)
JUDGING_FILES = (
    "verify/answers.py",
    "verify/modes.py",
    "verify/numbers.py",
    "data/words.py",
    "models/completion.py",
)


def rendering_code() -> str:
    """Hash of the code that asks a local model: its answers are of other prompts when that has changed."""
    return _code(RENDERING_ROOMS, RENDERING_FILES)


def _code(rooms: tuple[str, ...], files: tuple[str, ...]) -> str:
    return hash_value([*map(code_hash, rooms), *(hash_file(PACKAGE / name) for name in files)])


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
    code = [code_hash("apo/pairs"), rendering_code(), _code(JUDGING_ROOMS, JUDGING_FILES)]
    inputs = {"prompts": hash_value(rows), "code": hash_value(code)}
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
