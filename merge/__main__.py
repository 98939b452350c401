"""`python -m merge --config FILE [--only soup|merged] [--verify]`: see merge/run.py."""

from pathlib import Path

from pipeline.errors import UserError, run_main
from pipeline.program import STATE_FLAG, report_state
from pipeline.recipe import arguments, load

ONLY_FLAG = ("--only", {"choices": ("soup", "merged"), "help": "make only this folder"})
VERIFY_FLAG = (
    "--verify",
    {"action": "store_true", "help": "compare every tensor with the float64 average (linear merges)"},
)


def main() -> int:
    options, overrides = arguments(
        "merge", "Average the APO members, then mix in the mid checkpoint.", ONLY_FLAG, VERIFY_FLAG, STATE_FLAG
    )
    recipe = load(options.config, "merge", overrides)
    from merge.plan import planned

    part = {"soup": "soup", "merged": "merge"}.get(options.only)
    if part and part not in recipe.values:
        raise UserError(f"{recipe.path}: --only {options.only}, and the file has no {part}")
    code = 0
    for name in ("soup", "merged"):
        if options.only not in (None, name) or (name == "soup" and "soup" not in recipe.values):
            continue
        if name == "soup" and recipe.values.get("one_pass"):
            print("soup: not written, its members go straight into the merge (one_pass: true)")
            continue
        plan = planned(recipe, name, ask=not options.state)
        if options.verify and plan.config["merge_method"] != "linear":
            raise UserError(
                f"{plan.where}: --verify compares linear averages, and this is {plan.config['merge_method']}"
            )
        todo, stale = report_state([plan.stage], options.state)
        code = max(code, stale)
        if todo and options.state:
            break
        if todo:
            from merge.run import run

            run(plan.stage, plan.config, recipe, plan.where, plan.linear)
            print(f"{plan.stage.name}: {plan.stage.folder} written")
        if options.verify:
            from merge.linear import verify
            from merge.plan import plain_linear
            from merge.run import with_snapshots

            linear = plan.linear or plain_linear(with_snapshots(plan.config, plan.where))
            if linear is None:
                raise UserError(
                    f"{plan.where}: --verify compares plain linear averages of local models, and this is none"
                )
            verify(linear, Path(plan.stage.folder), plan.where)
    return code


run_main(main)
