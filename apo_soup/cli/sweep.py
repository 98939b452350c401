"""`apo-soup sweep RECIPE` with a `sweep.yaml`: a walk over training keys, each point a run folder of its own.

    python -m apo_soup.cli.sweep --config FILE [--launch FILE]

It stands here, above the stages, because it starts them as `apo-soup run` does; how points are compared, chosen and
told it shares with the walk over the merge weight (`apo_soup/sweep`). The tasks of guardrails are asked first, of the
first soup member first: where one falls beyond noise, the point's other members are not trained and its other tasks not
asked. A training that has begun comes to its end, since weights in its midst, under a learning rate that still falls,
say little of those at its end.
"""

import argparse
from typing import Any

from apo_soup.config.sweep import SweepFile
from apo_soup.progress import say
from apo_soup.runs.entry import alone_on, report_state, stage_program

LAUNCH_FLAG: tuple[str, dict[str, Any]] = (
    "--launch",
    {"metavar": "FILE", "help": "accelerate configuration that trainings are started with"},
)


def walk_file(file: SweepFile, options: argparse.Namespace) -> int:
    """Walk what a sweep file asks for, where that is missing or stale; returns the exit code.

    Raises:
        UserError: a point is wrong or failed, a model or the suite is not there, or another process is at work there.
    """
    from apo_soup.cli.settings_walk import run_walk, settings_walk  # late: a help must not wait for numpy
    from apo_soup.runs.outputs import output_folders

    with alone_on(file, output_folders(file), options.state):
        walk = settings_walk(file, options.launch)
        todo, code = report_state(file, [walk.stage], options.state, walk.failed_points)
        if todo and options.state:
            trained = walk.trained_points()
            if trained:
                say(f"settings: of {len(walk.points)} points {trained} have been trained")
        elif todo:
            run_walk(walk)
        return code


if __name__ == "__main__":
    stage_program(
        "apo_soup.cli.sweep", SweepFile, "Walk training keys, and say what the scores support.", walk_file, LAUNCH_FLAG
    )
