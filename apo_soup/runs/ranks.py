"""What the main process decides for all of its launch: whether a stage is stale, and what its inputs hash to.

On disks of their own, or behind a cache of NFS, ranks may see different things, and one that trains a stage waits
without end for another that skips it. So one looks, and the others take its word. It comes by the store through which
torch's processes find each other, before there is a process group: that one opens with the recipe's own time-out.
"""

import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from apo_soup.errors import UserError
from apo_soup.progress import is_main
from apo_soup.runs.manifest import process_count
from apo_soup.stops import STOPS, StopAsked

if TYPE_CHECKING:
    from torch.distributed import Store

Decision = TypeVar("Decision")
# Until the processes of all machines have started. Who waits for a decision looks this often, and hears of signals.
_MEETING = timedelta(minutes=30)
_LOOK_SECONDS = 0.05
# Who does something meanwhile looks less often: the main process answers all of them.
_LISTEN_SECONDS = 0.25
# For the main process to hear that all have heard, and for its sentence to be the last that is printed.
_HEARD_SECONDS, _LAST_WORD_SECONDS = 5.0, 2.0


def main_decides(question: str, decide: Callable[[], Decision]) -> Decision:
    """What `decide` returns in the main process, which must be plain JSON; the others wait for it.

    Args:
        question: a name that no other decision of this launch has.

    Raises:
        SystemExit: in the others, where the main process could not decide; it has said why.
    """
    if _alone():
        return decide()
    store = _store()
    if not is_main():
        taken: Decision = _taken(store, question)
        return taken
    try:
        decision = decide()
    except BaseException as error:
        _tell(store, question, error)
        raise
    store.set(question, json.dumps({"decision": decision}))
    return decision


@contextlib.contextmanager
def ended_together(work: str) -> Iterator[None]:
    """What all processes do at once and wait for one another in collectives, such as a checkpoint's writing. Where one
    is refused it says why, and the others end without a word, wherever they wait. Stands where signals are kept
    (`STOPS.deferred`): a launcher sends one to the others as soon as the first has ended.

    Args:
        work: a name that nothing else of this launch has.
    """
    if _alone():
        yield
        return
    store, done = _store(), threading.Event()
    listener = threading.Thread(target=_end_when_told, args=(store, work, done), daemon=True)
    listener.start()
    try:
        yield
    except UserError as error:
        done.set()
        listener.join()
        _tell(store, work, error)
        raise
    finally:
        done.set()
        listener.join()


def _end_when_told(store: "Store", work: str, done: threading.Event) -> None:
    """End this process, whose main thread may stand in a collective that nothing in Python gets it out of."""
    from torch.distributed import DistNetworkError

    with contextlib.suppress(DistNetworkError):  # the main process is gone, and the collective says so
        while not done.wait(_LISTEN_SECONDS):
            if store.check([work]):
                code = json.loads(store.get(work))["code"]
                sys.stdout.flush()
                silent = os.open(os.devnull, os.O_WRONLY)
                os.dup2(silent, sys.stderr.fileno())  # for what the collective says when its other end is gone
                store.add(f"{work}: heard", 1)
                time.sleep(_LAST_WORD_SECONDS)
                os._exit(code)


def _alone() -> bool:
    return process_count() == 1 or "MASTER_ADDR" not in os.environ


def _tell(store: "Store", question: str, error: BaseException) -> None:
    """Have the others end with the code of an error, and wait until they have heard of it."""
    store.set(question, json.dumps({"code": _code(error)}))
    last = time.monotonic() + (0 if isinstance(error, StopAsked) else _HEARD_SECONDS)
    while store.add(f"{question}: heard", 0) < process_count() - 1 and time.monotonic() < last:
        time.sleep(_LOOK_SECONDS)


def _taken(store: "Store", question: str) -> Any:
    from torch.distributed import DistNetworkError

    try:
        while not store.check([question]):
            time.sleep(_LOOK_SECONDS)
        told = json.loads(store.get(question))
    except DistNetworkError:  # the main process has ended, and its store with it
        told = {"code": 1}
    if "code" in told:
        STOPS.ignore()  # a launcher ends what is left, and this process has nothing to say of that
        with contextlib.suppress(DistNetworkError):
            store.add(f"{question}: heard", 1)
        time.sleep(_LAST_WORD_SECONDS)
        raise SystemExit(told["code"])
    return told["decision"]


def _code(error: BaseException) -> int:
    return error.code if isinstance(error, StopAsked) else 2 if isinstance(error, UserError) else 1


@cache
def _store() -> "Store":
    """The store that the variables of the launcher lead to; the process group that is opened later finds it there."""
    from torch.distributed import PrefixStore, rendezvous

    store, _, _ = next(rendezvous("env://", timeout=_MEETING))
    return PrefixStore("apo_soup", store)
