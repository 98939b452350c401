"""`python -m merge.sweep --config FILE`: see merge/sweep/__init__.py."""

import argparse
from pathlib import Path

from apo_soup.config.merge import MergeFile
from apo_soup.progress import say
from apo_soup.runs.entry import alone_on, report_state, stage_program


def run_sweep_file(recipe: MergeFile, options: argparse.Namespace) -> int:
    """Make the sweep that a merge file asks for, where it is missing or stale; returns the exit code.

    Raises:
        UserError: a model, the suite or its metric is not there, or another process is at work there.
    """
    if options.state and recipe.sweep is None:
        say(f"sweep: not asked for, {recipe.path} has no sweep")
        return 0
    from merge.sweep.walk import run_sweep, sweep_plan  # late: it needs numpy, which a help must not wait for

    with alone_on(recipe, {"sweep": Path(recipe.output_dir) / "sweep"}, options.state):
        plan = sweep_plan(recipe)
        todo, code = report_state(recipe, [plan.stage], options.state)
        if todo and not options.state:
            run_sweep(recipe, plan)
        return code


if __name__ == "__main__":
    stage_program("merge.sweep", MergeFile, "Find the merge weight that the scores support.", run_sweep_file)
