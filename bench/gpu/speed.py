"""Part 3: rates, utilisation and memory of training: ours, stock TRL, and packed pairs that share no prompt."""

import gc
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import SmolLM3Config

from bench.gpu.planned import planned_over
from bench.gpu.trainers import chat_trainer, common, pair_trainer
from bench.gpu.work import Size, chats_of, device_here, matrix_rate, operations_of_chats, operations_of_pairs, pairs_of

STEPS = 3
# Types of weights by their names; float32 masters are the project's default.
WEIGHTS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Case = tuple[dict[str, Any], Callable[[Path], Any], float]


def speed(size: Size, stages: list[str]) -> dict[str, Any]:
    """A line a contestant and length. One that does not fit the card is told as such."""
    rate = matrix_rate(torch.bfloat16 if device_here().type == "cuda" else torch.float32)
    lines = []
    for stage in stages:
        for case, make, operations in (pair_cases if stage == "apo" else chat_cases)(size):
            lines.append({"stage": stage, **case, **trained(make, case["steps_work"], operations, rate)})
            if not lines[-1]["fits"]:
                lines[-1]["planned_mb_of_each_of_8"] = planned_over(8, size, stage, case["max_length"])
            print(told(lines[-1]), flush=True)
    return {"matrix_operations_a_second": rate, "lines": lines}


def pair_cases(size: Size) -> Iterator[Case]:
    """Preference training: what is trained, its trainer, and the operations that a step needs."""
    config = SmolLM3Config(**size.config)
    for longest in size.pair_lengths:
        pairs = pairs_of(size.pairs * STEPS, longest, config.vocab_size)
        work = {"pairs": size.pairs, "tokens": sum(sum(map(len, row.values())) for row in pairs) / STEPS}
        for name, weights in (("ours", "float32"), ("ours", "bfloat16"), ("unshared", "float32"), ("stock", "float32")):

            def make(
                folder: Path, name: str = name, weights: str = weights, longest: int = longest, rows: Any = pairs
            ) -> Any:
                arguments = common(folder, longest, size.pairs, STEPS, weights == "float32", True)
                return pair_trainer(name, rows, size.config, WEIGHTS[weights], arguments)

            case = {"contestant": name, "weights": weights, "max_length": longest, "steps_work": work}
            yield case, make, operations_of_pairs(config, pairs) / STEPS


def chat_cases(size: Size) -> Iterator[Case]:
    """Supervised fine-tuning, likewise."""
    config = SmolLM3Config(**size.config)
    for longest in size.chat_lengths:
        chats = chats_of(size.chats * STEPS, longest, config.vocab_size)
        work = {"tokens": sum(len(row["input_ids"]) for row in chats) / STEPS}
        for name, weights in (("ours", "float32"), ("ours", "bfloat16"), ("packed", "float32"), ("padded", "float32")):
            batch = size.chats if name != "padded" else -(-len(chats) // STEPS)

            def make(
                folder: Path, name: str = name, weights: str = weights, longest: int = longest, rows: Any = chats,
                batch: int = batch,
            ) -> Any:  # fmt: skip
                arguments = common(folder, longest, batch, STEPS, weights == "float32", True)
                return chat_trainer(name, rows, size.config, WEIGHTS[weights], arguments)

            case = {"contestant": name, "weights": weights, "max_length": longest, "steps_work": work}
            yield case, make, operations_of_chats(config, chats) / STEPS


def trained(make: Callable[[Path], Any], work: dict[str, float], operations: float, rate: float) -> dict[str, Any]:
    """Steps of a trainer: their seconds, rates, the share of the matrix rate that they reach, and the most memory."""
    gpu = device_here().type == "cuda"
    if gpu:
        torch.cuda.reset_peak_memory_stats()
    try:
        with tempfile.TemporaryDirectory() as folder:
            trainer = make(Path(folder))
            trainer.train()
            (times,) = [found for found in trainer.callback_handler.callbacks if hasattr(found, "ends")]
            seconds = times.seconds
    except torch.OutOfMemoryError:
        return {"fits": False}
    finally:
        trainer = None
        gc.collect()
        if gpu:
            torch.cuda.empty_cache()
    return {
        "fits": True,
        "step_seconds": round(seconds, 3),
        **{f"{name}_a_second": round(number / seconds, 2) for name, number in work.items()},
        "utilisation": round(operations / seconds / rate, 4),
        "peak_mb": torch.cuda.max_memory_allocated() // 2**20 if gpu else None,
    }


def told(line: dict[str, Any]) -> str:
    """A line for people."""
    head = f"{line['stage']:4} {line['contestant']:9} {line['weights']:9} {line['max_length']:6,}"
    if not line["fits"]:
        return f"{head}  does not fit this card; the plan over 8: {line['planned_mb_of_each_of_8']:,} MB each"
    rates = "  ".join(
        f"{line[key]:,.1f} {key.removesuffix('_a_second')}/s" for key in line if key.endswith("_a_second")
    )
    memory = f"  {line['peak_mb']:,} MB" if line["peak_mb"] is not None else ""
    return f"{head}  {line['step_seconds']:.2f} s a step  {rates}  {line['utilisation']:.1%} of matrices{memory}"
