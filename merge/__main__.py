"""`python -m merge --config FILE [--only soup|merged] [--verify]`: see merge/run.py."""

import argparse
from pathlib import Path

from apo_soup.config.recipe import Recipe
from apo_soup.errors import UserError
from apo_soup.runs.entry import report_state, stage_program
from merge.plan import planned

ONLY_FLAG = ("--only", {"choices": ("soup", "merged"), "help": "make only this folder"})
VERIFY_FLAG = (
    "--verify",
    {"action": "store_true", "help": "compare every tensor with the float64 average (linear merges)"},
)


def work(recipe: Recipe, options: argparse.Namespace) -> int:
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


if __name__ == "__main__":
    about = "Average the APO members, then mix in the mid checkpoint."
    stage_program("merge", "merge", about, work, ONLY_FLAG, VERIFY_FLAG)
