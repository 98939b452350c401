"""A training in which no step comes to its end: told by every process, with the rows it is at and where it stands."""

import faulthandler
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from transformers import TrainerCallback, TrainerState

from apo_soup.stops import STACKS_SIGNAL
from apo_soup.streams import write_words
from apo_soup.training.trainer import StageTrainer

_STDERR = 2


class Progressed(TrainerCallback):
    """Notes when a training last went on: with a step or a part of one, an evaluated batch, a checkpoint."""

    def __init__(self, went_on: Callable[[float], None]):
        self.at, self.in_step, self._told_of, self._went_on = time.monotonic(), False, 0.0, went_on

    @property
    def silent(self) -> float:
        """Seconds since then."""
        return time.monotonic() - self.at

    @property
    def told(self) -> bool:
        """Whether this silence has been told of."""
        return self._told_of == self.at

    def tell(self) -> None:
        """Note that this silence is told of."""
        self._told_of = self.at

    def _sign(self, in_step: bool) -> None:
        if self.told:
            self._went_on(self.silent)
        self.in_step, self.at = in_step, time.monotonic()

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """A step's rows are there."""
        self._sign(in_step=True)

    def on_substep_end(self, *_: Any, **__: Any) -> None:
        """A micro-batch is done."""
        self._sign(in_step=True)

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """A step is done."""
        self._sign(in_step=False)

    def on_prediction_step(self, *_: Any, **__: Any) -> None:
        """A batch is evaluated."""
        self._sign(in_step=False)

    def on_evaluate(self, *_: Any, **__: Any) -> None:
        """An evaluation is done."""
        self._sign(in_step=False)

    def on_save(self, *_: Any, **__: Any) -> None:
        """A checkpoint is written."""
        self._sign(in_step=False)


@contextmanager
def hangs_told(
    trainer: StageTrainer, name: str, minutes: float, rows_told: Callable[[Sequence[int]], str]
) -> Iterator[None]:
    """Inside, say of this process when no step ended for so many minutes, once for each such silence.

    Args:
        name: the stage's.
        minutes: 0 for never.
        rows_told: where rows are, by their numbers among the kept ones.
    """
    if not minutes:
        yield
        return
    who = f"{name}: rank {os.environ.get('RANK', '0')}"
    progressed = Progressed(lambda seconds: _write(f"{who}: goes on, after {seconds / 60:.3g} minutes"))
    ended = threading.Event()

    def watch() -> None:
        limit = 60 * minutes
        while not ended.wait(limit if progressed.told else max(0.0, limit - progressed.silent)):
            if progressed.silent >= limit and not progressed.told:
                progressed.tell()
                rows = rows_told(trainer.rows_of_step) if progressed.in_step else None
                _write(f"{who} {silence(minutes, trainer.state, rows)}; {_how_to_see()}")
                faulthandler.dump_traceback(_STDERR, all_threads=True)

    trainer.add_callback(progressed)
    thread = threading.Thread(target=watch, name="hang", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def silence(minutes: float, state: TrainerState, rows: str | None) -> str:
    """What a process is told to be at that has been silent.

    Args:
        rows: where the rows of the running step are; None where no step is running.
    """
    done = state.global_step
    at = f"at step {done + 1} of {state.max_steps}, of {rows}"
    if rows is None:
        doing = "rows are loaded, held-out rows read, a suite's tasks asked, or files written"
        at = f"behind step {done} of {state.max_steps}, where {doing}"
    return f"has ended no step for {minutes:g} minutes: it is {at}"


def _how_to_see() -> str:
    again = f", and again at `kill -{STACKS_SIGNAL.name.removeprefix('SIG')} {os.getpid()}`" if STACKS_SIGNAL else ""
    return f"its threads follow{again} on {socket.gethostname()}"


def _write(line: str) -> None:
    # Not `print`: the thread that it is about may hold the lock of standard error.
    write_words(_STDERR, f"{line}\n")
