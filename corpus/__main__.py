"""`python -m corpus prepare|preview --config FILE`: see corpus/prepare.py and corpus/preview.py."""

import json
import sys
from pathlib import Path

from pipeline.check import stage_of_file
from pipeline.errors import UserError, run_main
from pipeline.inputs import training_inputs
from pipeline.recipe import arguments, load

USAGE = """usage: python -m corpus prepare --config FILE [--key value ...]
       python -m corpus preview --config FILE [--rows 3] [--key value ...]

prepare  write the training sequences of a mid, sft or apo file, and a table of what is in them
preview  show rows as the model will see them, trained tokens coloured"""


def main() -> int:
    verb = sys.argv.pop(1) if len(sys.argv) > 1 else ""
    if verb in ("-h", "--help"):
        print(USAGE)
        return 0
    if verb not in ("prepare", "preview"):
        raise UserError(f"expected prepare or preview, found {verb or 'nothing'}; see python -m corpus --help")
    rows_flag = ("--rows", {"type": int, "default": 3, "metavar": "N", "help": "rows shown of each source"})
    options, overrides = arguments(f"corpus {verb}", "Prepare or preview training rows.", rows_flag)
    recipe = load(options.config, stage_of_file(Path(options.config)) or "sft", overrides)
    if options.rows < 1:
        raise UserError(f"--rows must be 1 or more, found {options.rows}")
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
