"""`python -m merge --config FILE [--only soup|merged]`: see merge/run.py."""

from pipeline.errors import run_main
from pipeline.program import STATE_FLAG, quiet_libraries, report_state
from pipeline.recipe import arguments, load

ONLY_FLAG = ("--only", {"choices": ("soup", "merged"), "help": "make only this folder"})


def main() -> int:
    options, overrides = arguments(
        "merge", "Average the APO members, then mix in the mid checkpoint.", ONLY_FLAG, STATE_FLAG
    )
    recipe = load(options.config, "merge", overrides)
    from merge.plan import merge_config, soup_config, soup_members, stage_of

    code = 0
    for name in ("soup", "merged"):
        if options.only not in (None, name) or (name == "soup" and "soup" not in recipe.values):
            continue
        if name == "soup":
            config = soup_config(soup_members(recipe), recipe.values["soup"].get("dtype", "bfloat16"))
        else:
            config = merge_config(recipe)
        stage = stage_of(recipe, name, config)
        todo, stale = report_state([stage], options.state)
        code = max(code, stale)
        if todo and options.state:
            break
        if todo:
            quiet_libraries()
            from merge.run import run

            run(stage, config, recipe.where(name if name == "soup" else "merge"))
            print(f"{stage.name}: {stage.folder} written")
    return code


run_main(main)
