"""`python -m apo.pairs --config FILE`: see apo/pairs/make.py."""

from pathlib import Path

from pipeline.errors import UserError, run_main
from pipeline.inputs import model_hash, rows_hash, semantic
from pipeline.program import STATE_FLAG, quiet_libraries, report_state
from pipeline.recipe import Recipe, arguments, load
from pipeline.stage import Stage


def stage_of(recipe: Recipe) -> Stage:
    """The pairs folder with its fingerprint; raises UserError for missing inputs."""
    inputs = {"prompts": rows_hash(recipe.need("prompts"), recipe.where("prompts"))}
    for side in ("strong", "weak"):
        settings = recipe.need(side)
        if "model" not in settings:
            raise UserError(f"{recipe.where(side)}: {side} has no model")
        inputs[side] = model_hash(settings["model"], recipe.where(f"{side}.model"), settings.get("revision"))
    return Stage("pairs", Path(recipe.need("output_dir")), semantic(recipe.values), inputs)


def main() -> int:
    options, overrides = arguments("apo.pairs", "Make preference pairs with a strong and a weak model.", STATE_FLAG)
    recipe = load(options.config, "pairs", overrides)
    stage = stage_of(recipe)
    todo, code = report_state([stage], options.state)
    if todo and not options.state:
        quiet_libraries()
        from apo.pairs.make import make_pairs

        make_pairs(recipe, stage)
    return code


run_main(main)
