"""What the main process decides for all of its launch: whether a stage is stale, and what its inputs hash to.

On disks of their own, or behind a cache of NFS, ranks may see different things, and one that trains a stage waits
without end for another that skips it. So one looks, and the others take its word. It comes by the store through which
torch's processes find each other, before there is a process group: that one opens with the recipe's own time-out.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable
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
# For the main process to hear that all have heard, and for its sentence to be the last that is printed.
_HEARD_SECONDS, _LAST_WORD_SECONDS = 5.0, 2.0


def main_decides(question: str, decide: Callable[[], Decision]) -> Decision:
    """What `decide` returns in the main process, which must be plain JSON; the others wait for it.

    Args:
        question: a name that no other decision of this launch has.

    Raises:
        SystemExit: in the others, where the main process could not decide; it has said why.
    """
    if process_count() == 1 or "MASTER_ADDR" not in os.environ:
        return decide()
    store = _store()
    if not is_main():
        taken: Decision = _taken(store, question)
        return taken
    try:
        decision = decide()
    except BaseException as error:
        store.set(question, json.dumps({"code": _code(error)}))
        last = time.monotonic() + (0 if isinstance(error, StopAsked) else _HEARD_SECONDS)
        while store.add(f"{question}: heard", 0) < process_count() - 1 and time.monotonic() < last:
            time.sleep(_LOOK_SECONDS)
        raise
    store.set(question, json.dumps({"decision": decision}))
    return decision


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
