"""What a training says of itself: a block before its first step, a line when its folder is whole."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import psutil  # type: ignore[import-untyped]  # psutil's
import torch
from accelerate import PartialState
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from apo_soup.config.launch_file import distributed_type
from apo_soup.config.training import TrainingFile
from apo_soup.config.yaml_lines import read_yaml
from apo_soup.errors import UserError
from apo_soup.progress import clock, say, warning
from apo_soup.runs.stage import Stage
from apo_soup.tables import size_text

# How the words of a launcher begin, as a system shows them.
_LAUNCHERS = ("accelerate", "accelerate-launch", "apo_soup.cli.launch", "launch")


class Beginning(TrainerCallback):
    """Says what is about to be trained, once the steps are known."""

    def __init__(self, lines: Callable[[int], Iterator[str]]):
        """`lines` gives the block of so many steps."""
        self.lines = lines

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Say it."""
        for line in self.lines(state.max_steps):
            say(line)


def beginning(
    recipe: TrainingFile,
    stage: Stage,
    trainer: Any,
    counted: dict[str, int],
    foretold: dict[str, Any] | None,
    asked: int | None,
) -> Callable[[int], Iterator[str]]:
    """What gives the block of a training by its number of steps: from what to what, where, on how many rows, how long.

    Args:
        counted: the rows that are trained on, their tokens, and those of them that carry loss.
        foretold: the plan's figures, where there is one.
        asked: the processes that the launcher was asked for, where one was.
    """

    def lines(steps: int) -> Iterator[str]:
        yield f"{stage.name}: {recipe.model_name_or_path} is trained into {stage.folder}"
        processes = PartialState().num_processes
        device = PartialState().device
        sharing = f"; {trainer.sharing_size} share each row" if trainer.sharing_size > 1 else ""
        yield f"{stage.name}: {devices_told(processes, device)}{sharing}"
        if asked is not None and asked > processes:
            why = (
                "on a CPU accelerate starts one"
                if device.type == "cpu"
                else "accelerate starts more than one where --multi_gpu or the launch file's distributed_type says so"
            )
            yield warning(
                f"{stage.name}: the launcher was asked for {asked} processes, and started {processes}; {why}, "
                f"`torchrun --nproc-per-node {asked} -m ...` starts {asked}"
            )
        rows = f"{counted['rows']:,} rows, {counted['tokens']:,} tokens, {counted['trained']:,} of them trained"
        seconds = (foretold or {}).get("seconds")
        expected = f", about {clock(seconds)} by the plan" if seconds else ""
        batch = trainer.get_total_train_batch_size(trainer.args)
        yield f"{stage.name}: {rows}; {steps:,} steps of {batch:,}{expected}"
        yield from (warning(f"{stage.name}: {told}") for told in schedule_misfits(trainer.args, steps))

    return lines


def schedule_misfits(arguments: TrainingArguments, steps: int) -> Iterator[str]:
    """What of a learning-rate schedule does not fit into so many steps, which epochs tell no sooner."""
    warm, options = arguments.get_warmup_steps(steps), cast(dict[str, Any], arguments.lr_scheduler_kwargs or {})
    if warm > steps:
        yield f"the warm-up of {warm:,} steps is longer than the training of {steps:,}; its rate is never reached"
    decay = options.get("num_decay_steps")
    if decay is not None and options.get("num_stable_steps") is None and decay > steps - warm:
        yield f"the decay of {decay:,} steps is longer than the {steps - warm:,} behind the warm-up, and begins midway"


def devices_told(processes: int, device: torch.device) -> str:
    """How many processes there are, and on which devices.

    >>> devices_told(1, torch.device("cpu"))
    '1 process on the CPU'
    """
    word = "process" if processes == 1 else "processes"
    if device.type == "cpu":
        return f"{processes} {word} on the CPU"
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    memory = torch.cuda.get_device_properties(device).total_memory if device.type == "cuda" else 0
    return f"{processes} {word}, each on one {name}{f' of {size_text(memory)}' if memory else ''}"


def processes_asked() -> int | None:
    """The processes that accelerate was asked to start this one among; None where no such launcher did."""
    try:
        words = psutil.Process().parent().cmdline()
    except (psutil.Error, AttributeError):
        return None
    return processes_in(words)


def processes_in(words: list[str]) -> int | None:
    """The processes that a launcher's words ask for, by an option or by the file that they name.

    >>> processes_in(["accelerate", "launch", "--num_processes", "2", "-m", "sft"])
    2
    >>> processes_in(["accelerate", "launch", "--num_processes=4", "-m", "sft"])
    4
    >>> processes_in(["bash"]) is None
    True
    """
    if not any(word.endswith(_LAUNCHERS) for word in words[:4]):
        return None
    apart = [part for word in words for part in (word.split("=", 1) if word.startswith("--") else [word])]
    found = {word.lstrip("-").replace("-", "_"): after for word, after in pairwise(apart)}
    asked = found.get("num_processes")
    try:
        if asked is None and "config_file" in found:
            settings, _ = read_yaml(Path(found["config_file"]))
            asked = None if distributed_type(settings) == "NO" else settings.get("num_processes")
        return int(asked) if asked is not None else None
    except (UserError, ValueError, TypeError):
        return None


def closing_line(stage: Stage, metrics: dict[str, Any], prepared: Path) -> str:
    """What a finished training says: its folder, how long it took, its mean loss, and what was wrong with rows."""
    parts = [f"{stage.name}: {stage.folder} written"]
    if "train_seconds" in metrics:
        parts[0] += f", {clock(metrics['train_seconds'])} of training"
    if "train_loss" in metrics:
        parts.append(f"mean loss {metrics['train_loss']:.4f}")
    if "eval_loss" in metrics:
        parts.append(f"held-out loss {metrics['eval_loss']:.4f}")
    sources = metrics.get("data") or []
    names = ("rejected", "dropped", "not_drawn", "lost")
    rejected, dropped, not_drawn, lost = (sum(s.get(name, 0) for s in sources) for name in names)
    dropped -= not_drawn  # weight or token_share asked for that
    if rejected:
        parts.append(f"{_rows(rejected)} could not be used ({prepared / 'rejects.jsonl'})")
    if dropped:
        parts.append(f"{_rows(dropped)} {'was' if dropped == 1 else 'were'} left out")
    if lost:
        parts.append(f"{lost:,} tokens were lost to max_length")
    return "; ".join(parts)


def _rows(count: int) -> str:
    return f"{count:,} row{'' if count == 1 else 's'}"
