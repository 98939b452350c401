"""`python -m corpus prepare|preview --config FILE`: see corpus/prepare.py and corpus/preview.py."""

import json
import sys
from pathlib import Path

from pipeline.check import stage_of_file
from pipeline.errors import UserError, run_main
from pipeline.inputs import training_inputs
from pipeline.recipe import Recipe, arguments, load

USAGE = """usage: python -m corpus prepare --config FILE [--key value ...]
       python -m corpus preview --config FILE [--rows 3] [--key value ...]

prepare  write the training sequences of a mid, sft or apo file, and a table of what is in them
preview  show rows as the model will see them, trained tokens coloured; of a pairs file, the pairs it made"""


def made_pairs(recipe: Recipe) -> Recipe:
    """The pairs that a pairs file has made, as an apo file would read them with one side's tokenizer.

    Raises:
        UserError: none are made yet, or both sides are endpoints, which give no tokenizer.
    """
    files = sorted(Path(recipe.need("output_dir")).glob("train.*"))
    if not files:
        raise UserError(f"{recipe.path}: no pairs in {recipe.need('output_dir')} yet; run `make pairs` first")
    local = [recipe.values[side] for side in ("strong", "weak") if "base_url" not in recipe.values[side]]
    if not local:
        raise UserError(f"{recipe.path}: both sides are endpoints; preview an apo file that reads {files[0]}")
    tokenizer = {"model_name_or_path": local[0]["model"], "chat_template": local[0].get("chat_template")}
    return Recipe(recipe.path, "apo", {**tokenizer, "dataset_mixture": {"datasets": [{"id": str(files[0])}]}}, {})


def main() -> int:
    verb = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if verb in ("-h", "--help"):
        print(USAGE)
        return 0
    if verb not in ("prepare", "preview"):
        raise UserError(f"expected prepare or preview, found {verb or 'nothing'}; see python -m corpus --help")
    rows_flag = ("--rows", {"type": int, "default": 3, "metavar": "N", "help": "rows shown of each source"})
    flags = (rows_flag,) if verb == "preview" else ()
    options, overrides = arguments(f"corpus {verb}", "Prepare or preview training rows.", *flags)
    recipe = load(options.config, stage_of_file(Path(options.config)) or "sft", overrides)
    if verb == "preview" and options.rows < 1:
        raise UserError(f"--rows must be 1 or more, found {options.rows}")
    if recipe.stage == "pairs" and verb == "preview":
        recipe = made_pairs(recipe)
    training_inputs(recipe)
    for note in recipe.notes:
        print(note)
    from pipeline.program import quiet_libraries

    quiet_libraries()
    from corpus.tokenizer import recipe_tokenizer

    tokenizer = recipe_tokenizer(recipe)
    if verb == "prepare":
        from corpus.prepare import prepare
        from corpus.tally import show

        folder = prepare(recipe, tokenizer)
        print(show(json.loads((folder / "stats.json").read_text())))
        print(folder)
    else:
        from corpus.preview import preview

        preview(recipe, tokenizer, options.rows)
    return 0


run_main(main)
