"""`python -m apo.pairs --config FILE`: see apo/pairs/make.py."""

from pipeline.errors import run_main
from pipeline.program import STATE_FLAG, quiet_libraries, report_state
from pipeline.recipe import arguments, load


def main() -> int:
    options, overrides = arguments("apo.pairs", "Make preference pairs with a strong and a weak model.", STATE_FLAG)
    recipe = load(options.config, "pairs", overrides)
    from apo.pairs.stage import stage_of

    stage = stage_of(recipe)
    todo, code = report_state([stage], options.state)
    if todo and not options.state:
        quiet_libraries()
        from apo.pairs.make import make_pairs

        make_pairs(recipe, stage)
    return code


run_main(main)
