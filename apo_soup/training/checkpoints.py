"""Checkpoints of a stage that has begun: each with a record of its files, and the newest that is as recorded."""

import json
import re
import shutil
from pathlib import Path
from typing import Annotated, Any

from accelerate import PartialState
from pydantic import Field

from apo_soup.errors import UserError
from apo_soup.progress import warn
from apo_soup.runs.durable import content_records, damage, give_rights_of, sync_path, sync_tree
from apo_soup.runs.ranks import main_decides
from apo_soup.runs.stage import Stage
from apo_soup.stored_json import Count, Form, OtherFormError, json_of_form
from apo_soup.training.shared_folder import check_shared

# In a checkpoint that was written to its end: the record of its other files, as JSON.
WHOLE = "whole"
# Tokens, seconds and losses until a checkpoint.
COUNTED = "counted.json"
# Of a checkpoint of the Trainer's; `checkpoint-5-copy` is a person's.
_NAME = re.compile(r"checkpoint-\d+")
_STATE = "trainer_state.json"
# How processes hold what they train: each of them whole, or in parts, by the library that divides it.
UNSHARDED = "no sharding"
# What the optimiser is kept in: plain, of FSDP, of DeepSpeed.
_OPTIMIZERS = {"optimizer.pt": UNSHARDED, "optimizer.bin": "FSDP", "optimizer_*": "FSDP", "global_step*": "DeepSpeed"}


class RecordedFile(Form):
    """Size and hash of a file of a checkpoint."""

    bytes: Count
    sha256: str | None = None
    xxh3: str | None = None


class CheckpointRecord(Form):
    """The record of a checkpoint's files, by their path there."""

    files: Annotated[dict[str, RecordedFile], Field(min_length=1)]


class CountedWindow(Form):
    """What was not logged yet at a checkpoint."""

    losses: list[float]
    total: float
    logged: float
    values: dict[str, list[Any]]


class CountedUntil(Form):
    """Tokens, seconds and losses until a checkpoint."""

    tokens: float
    seconds: float
    skipped: Count | None = None
    window: CountedWindow | None = None
    recent: dict[str, list[float]] | None = None


class TrainerState(Form):
    """What is read of the Trainer's own state."""

    global_step: Count
    best_global_step: Count | None = None


def counted_until(checkpoint: Path) -> dict[str, Any]:
    """What was counted until a checkpoint; nothing for one of older releases, which has no such file.

    Raises:
        OtherFormError: its file is cut, empty or of another form.
    """
    file = checkpoint / COUNTED
    return json_of_form(file, CountedUntil) if file.is_file() else {"tokens": 0, "seconds": 0.0}


def begin_stage(stage: Stage, where: str) -> Path:
    """The stage's partial folder, prepared by the main process while the others wait. Checkpoints that were not written
    to their end are removed; those that are not as they were written are named and put aside. Where the main process
    cannot do that, it says why, and the others end without a word.

    Call it when TRL's arguments exist: they open the process group with the recipe's `ddp_timeout`.

    Args:
        where: file, line and key that name the stage's folder.

    Raises:
        UserError: as `Stage.begin`; or the processes do not share that folder.
    """
    main_decides(f"begin {stage.name}", lambda: _begin(stage))
    PartialState().wait_for_everyone()
    check_shared(stage.partial, where)
    return stage.partial


def _begin(stage: Stage) -> None:
    stage.begin()
    shutil.rmtree(stage.partial / "final", ignore_errors=True)
    for folder in stage.partial.glob(".checkpoint-*"):
        shutil.rmtree(folder)
    _put_damaged_aside(stage)
    _put_damaged_best_aside(stage)


def _put_damaged_aside(stage: Stage) -> None:
    """Rename checkpoints that cannot be gone on from, until one can; and any without a record."""
    for folder in stage.partial.glob("checkpoint-*"):
        if _NAME.fullmatch(folder.name) and not (folder / WHOLE).is_file():
            _put_aside_if_damaged(stage, folder)
    while checkpoint := last_checkpoint(stage.partial):
        if not _put_aside_if_damaged(stage, checkpoint):
            return


def _put_damaged_best_aside(stage: Stage) -> None:
    """The same for the best checkpoint that the newest names: it may be the one whose weights are kept at the end."""
    newest = last_checkpoint(stage.partial)
    if newest is None:
        return
    best = json_of_form(newest / _STATE, TrainerState).get("best_global_step")
    checkpoint = stage.partial / f"checkpoint-{best}"
    if best is not None and checkpoint != newest and (checkpoint / WHOLE).is_file():
        _put_aside_if_damaged(stage, checkpoint)


def _put_aside_if_damaged(stage: Stage, checkpoint: Path) -> bool:
    fault = checkpoint_fault(checkpoint)
    if fault is None:
        return False
    warn(f"{stage.name}: {checkpoint} is not used: {fault}")
    aside = checkpoint.with_name(f"damaged-{checkpoint.name}")
    shutil.rmtree(aside, ignore_errors=True)
    checkpoint.rename(aside)
    return True


def checkpoint_fault(folder: Path) -> str | None:
    """Why a checkpoint cannot be gone on from, in words, or None: its files are not as recorded, or lack what training
    goes on from.
    """
    try:
        records = json_of_form(folder / WHOLE, CheckpointRecord)["files"]
    except OSError as error:
        return f"its record {WHOLE} cannot be read: {error.strerror}"
    except OtherFormError as error:
        return f"its record {WHOLE} cannot be read: {error}"
    unhashed = next((name for name, record in records.items() if not {"sha256", "xxh3"} & record.keys()), None)
    fault = f"its record {WHOLE} has no hash of {unhashed}" if unhashed else damage(folder, records, by_content=True)
    if fault:
        return fault
    try:
        counted_until(folder)
    except OtherFormError as error:
        return f"{COUNTED}: {error}"
    if not (folder / _STATE).is_file():
        return f"{_STATE} is missing"
    try:
        json_of_form(folder / _STATE, TrainerState)
    except OtherFormError as error:
        return f"{_STATE}: {error}"
    if not holds_optimizer(folder):
        return "it holds no state of the optimiser"
    return None


def holds_optimizer(checkpoint: Path) -> bool:
    """Whether there is a checkpoint with the state of the optimiser, which `save_only_model` leaves out."""
    return any(next(checkpoint.glob(pattern), None) for pattern in _OPTIMIZERS)


def require_same_sharding(checkpoint: Path, sharding: str, where: str) -> None:
    """Look whether a launch can read the optimiser of a checkpoint, which others keep otherwise.

    Args:
        sharding: of this launch: UNSHARDED, FSDP or DeepSpeed.
        where: file, line and key that name the stage's folder.

    Raises:
        UserError: it cannot.
    """
    kept = {kind for pattern, kind in _OPTIMIZERS.items() if next(checkpoint.glob(pattern), None)}
    if kept and sharding not in kept:
        raise UserError(
            f"{where}: {checkpoint}: expected a launch with {' or '.join(sorted(kept))}, as the one that wrote it, got "
            f"one with {sharding}; launch it so again, or remove {checkpoint.parent} to start anew"
        )


def put_into_place(written: Path, checkpoint: Path) -> None:
    """Record the files of a checkpoint that was written to its end, have the disk keep them, and give it its name."""
    record = {"files": content_records(written)}
    (written / WHOLE).write_text(json.dumps(record, indent=1), encoding="utf-8")
    give_rights_of(written / WHOLE, written)
    sync_tree(written)
    shutil.rmtree(checkpoint, ignore_errors=True)
    written.rename(checkpoint)
    sync_path(checkpoint.parent)


def last_checkpoint(partial: Path) -> Path | None:
    """The newest whole checkpoint of a begun stage, or None."""
    found = [f for f in partial.glob("checkpoint-*") if _NAME.fullmatch(f.name) and (f / WHOLE).is_file()]
    return max(found, key=lambda f: int(f.name.rsplit("-", 1)[1]), default=None)
