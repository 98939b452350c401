"""The opening of every stage's program: read the file, say what there is to do, do it."""

import argparse
from collections.abc import Callable

from apo_soup.config.recipe import Recipe, arguments, load
from apo_soup.errors import run_main
from apo_soup.progress import is_main
from apo_soup.runs.stage import Stage

STALE = 3
STATE_FLAG = (
    "--state",
    {"action": "store_true", "help": "only say whether the stage is up to date (exit 0) or not (3)"},
)


def report_state(stages: list[Stage], only_state: bool, again: dict[str, str] | None = None) -> tuple[list[Stage], int]:
    """Say for each stage whether it is up to date; return those that are not, and the exit code of `--state`.

    `again` gives reasons, by name, for stages to run although their own folder is current.
    """
    todo = []
    say = print if is_main() else lambda text: None
    for stage in stages:
        reason = stage.stale() or (again or {}).get(stage.name)
        if reason is None:
            say(f"{stage.name}: up to date, skipped ({stage.folder} was made from the same configuration and inputs)")
        else:
            todo.append(stage)
            say(f"{stage.name}: {'stale' if only_state else 'running'}, because {reason}")
    return todo, STALE if todo and only_state else 0


def stage_program(
    module: str, kind: str, description: str, work: Callable[[Recipe, argparse.Namespace], int], *flags: tuple[str, dict]
) -> None:
    """Run `python -m MODULE`: `work` is given the checked stage file of `kind` and the flags, and returns the exit code.

    `--state`, which every stage knows, stands in the flags as `state`.
    """

    def main() -> int:
        options, overrides = arguments(module, description, *flags, STATE_FLAG)
        return work(load(options.config, kind, overrides), options)

    run_main(main)
