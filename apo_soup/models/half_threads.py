"""Batches on a CPU two at a time, each on half of the threads: passes of small models gain little from more, which wait
for each other at every operation, and on a busy machine for the slowest.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

# More would each hold the activations of a batch.
TOGETHER = 2
OneBatch = TypeVar("OneBatch")
Found = TypeVar("Found")


def batches_together(device: torch.device) -> int:
    """How many batches of a model on a device are computed at a time: on an accelerator, which has a queue, one."""
    return TOGETHER if device.type == "cpu" and torch.get_num_threads() >= TOGETHER else 1


def on_half_threads(
    work: Callable[[OneBatch], Found],
    batches: Sequence[OneBatch],
    device: torch.device,
    together: bool = True,
    halt: Callable[[], None] | None = None,
) -> Iterator[Found]:
    """What `work` gives for each batch, in order, without gradients.

    Args:
        together: false where the batches must come one after another.
        halt: called where nobody waits for the rest any more, such as behind a signal; what is under way is waited for.
    """

    def alone(batch: OneBatch) -> Found:
        with torch.inference_mode():  # holds in its own thread
            return work(batch)

    count, threads = min(batches_together(device), len(batches)), torch.get_num_threads()
    if count < TOGETHER or not together:
        yield from map(alone, batches)
        return
    try:
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(threads // count,)) as workers:
            try:
                yield from workers.map(alone, batches)
            except BaseException:
                if halt:
                    halt()
                raise
    finally:
        torch.set_num_threads(threads)  # some of its libraries have one number for all threads
