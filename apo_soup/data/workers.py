"""Work in several processes: results in the order of the items, and who was at what when a process ended."""

import os
import pickle
import signal
import sys
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

WorkT = TypeVar("WorkT")
AnswerT = TypeVar("AnswerT")
# How many results may wait for a slower one before them, by process.
RESULTS_AHEAD = 4


class WorkerEnded(Exception):
    """A process ended from outside, at an item; `ended` says how."""

    def __init__(self, item: object, code: int | None):
        signals = {number.value: number.name for number in signal.Signals}
        self.item = item
        self.ended = f"by {signals.get(-code, f'signal {-code}')}" if code is not None and code < 0 else f"with {code}"
        super().__init__(f"a process ended {self.ended}")


class _Worker(Generic[WorkT, AnswerT]):
    """A process and the pipe to it; it has one item at a time, of that `number`."""

    number = -1
    item: WorkT

    def __init__(self, process: BaseProcess, pipe: Connection):
        self.process, self.pipe = process, pipe

    def give(self, number: int, item: WorkT) -> None:
        self.number, self.item = number, item
        try:
            self.pipe.send(item)
        except BrokenPipeError:
            raise self._ended() from None

    def result(self) -> AnswerT:
        try:
            result, error, lines = self.pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._ended() from None
        if error is not None:
            error.add_note(f"in a process of its own:\n{lines}")
            raise error
        answer: AnswerT = result
        return answer

    def _ended(self) -> WorkerEnded:
        self.process.join()
        return WorkerEnded(self.item, self.process.exitcode)

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join()


def in_processes(function: Callable[[WorkT], AnswerT], items: Iterable[WorkT], processes: int) -> Iterator[AnswerT]:
    """`function` of every item, in the items' order, computed in processes of their own.

    On Linux they are forked, so that they begin with what is loaded here and nothing is imported or sent again.

    Raises:
        WorkerEnded: the system ended one of the processes.
        Exception: what `function` raises.
    """
    context = get_context("fork" if sys.platform == "linux" else "spawn")
    workers: list[_Worker[WorkT, AnswerT]] = []
    try:
        for _ in range(processes):
            ours, theirs = context.Pipe()
            inherited = [worker.pipe for worker in workers] + [ours] if sys.platform == "linux" else []
            arguments = (function, theirs, inherited)
            process = context.Process(target=_serve, args=arguments, daemon=True)  # type: ignore[attr-defined]  # of both
            process.start()
            theirs.close()
            workers.append(_Worker(process, ours))
        yield from _results(workers, enumerate(items))
    finally:
        for worker in workers:
            worker.stop()


def _results(workers: list[_Worker[WorkT, AnswerT]], items: Iterator[tuple[int, WorkT]]) -> Iterator[AnswerT]:
    idle = deque(workers)
    busy: dict[Connection, _Worker[WorkT, AnswerT]] = {}
    results: dict[int, AnswerT] = {}
    wanted = given = 0
    last: int | None = None
    while last is None or wanted < last:
        while idle and last is None and given - wanted < RESULTS_AHEAD * len(workers):
            number, item = next(items, (given, None))
            if item is None:
                last = given
                break
            worker = idle.popleft()
            worker.give(number, item)
            busy[worker.pipe] = worker
            given += 1
        if wanted in results:
            yield results.pop(wanted)
            wanted += 1
            continue
        for pipe in wait(list(busy)) if busy else ():  # without a pipe it would wait for ever
            worker = busy.pop(pipe)  # type: ignore[call-overload]  # `wait` is declared for all that can be waited for
            results[worker.number] = worker.result()
            idle.append(worker)


def _serve(function: Callable[[WorkT], AnswerT], pipe: Connection, inherited: list[Connection]) -> None:
    """Answer items until the other end is closed, which it is when the parent has ended, however that was."""
    for other in inherited:
        other.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells of it, and ends this process
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # there is a process for every core
    while True:
        try:
            item = pipe.recv()
        except (EOFError, ConnectionResetError):
            return
        try:
            answer: tuple[object, ...] = (function(item), None, "")
        except Exception as error:
            answer = (None, _sendable(error), traceback.format_exc())
        try:
            pipe.send(answer)
        except BrokenPipeError:
            return


def _sendable(error: Exception) -> Exception:
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # whatever an exception's own constructor does
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
