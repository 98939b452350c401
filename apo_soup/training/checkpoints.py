"""Checkpoints of a stage that has begun: which of them are whole, and the newest one."""

import shutil
from pathlib import Path

from accelerate import PartialState

from apo_soup.progress import is_main
from apo_soup.runs.stage import Stage

# An empty file in a checkpoint that was written to its end.
WHOLE = "whole"
# Tokens and seconds until a checkpoint.
COUNTED = "counted.json"


def begin_stage(stage: Stage) -> Path:
    """The stage's partial folder, prepared by the main process while the others wait; unwhole checkpoints removed.

    Call it when TRL's arguments exist: they open the process group with the recipe's `ddp_timeout`.
    """
    if is_main():
        stage.begin()
        for folder in stage.partial.glob("checkpoint-*"):
            if not (folder / WHOLE).is_file():
                shutil.rmtree(folder)
    PartialState().wait_for_everyone()
    return stage.partial


def last_checkpoint(partial: Path) -> Path | None:
    """The newest whole checkpoint of a begun stage, or None."""
    found = [f for f in partial.glob("checkpoint-*") if (f / WHOLE).is_file()]
    return max(found, key=lambda f: int(f.name.rsplit("-", 1)[1]), default=None)
