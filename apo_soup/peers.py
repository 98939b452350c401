"""What a process says whose launch has lost another one, and whose collective breaks: the other has said why."""

import os
import time

from apo_soup.stops import StopRequests

# How torch's stores and process groups (gloo, NCCL) tell that the other end is gone.
_GONE = (
    "Connection reset by peer",
    "Connection closed by peer",
    "Connection closed by remote peer",
    "Socket closed",
    "Broken pipe",
    "remote process exited",
    "recvValue failed",
    "failed to recv",
    "Failed to recv",
)
_OF_COLLECTIVES = ("gloo", "nccl", "tcpstore", "c10d", "process group", "processgroup")
# Until a launcher has seen that one has ended, and ends the others.
_LAUNCHER_SECONDS = 10.0


def lost_peer(error: BaseException) -> str | None:
    """How the end of another process of this launch shows in an error; None where it does not.

    >>> os.environ["WORLD_SIZE"] = "2"
    >>> lost_peer(RuntimeError("[gloo/transport/tcp/pair.cc:537] Read error [::1]:7: Connection reset by peer"))
    'Connection reset by peer'
    >>> lost_peer(OSError("Connection reset by peer")) is None
    True
    >>> del os.environ["WORLD_SIZE"]
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        return None
    seen: BaseException | None = error
    while seen is not None:
        text = str(seen)
        gone = next((sign for sign in _GONE if sign in text), None)
        if gone and isinstance(seen, RuntimeError) and any(part in text.lower() for part in _OF_COLLECTIVES):
            return gone
        seen = seen.__cause__ or seen.__context__
    return None


def told_of_lost_peer(gone: str, stops: StopRequests) -> tuple[str, int]:
    """A line about the end of another process, and the exit code: a launcher ends this one with a signal, which is
    waited for.
    """
    last = time.monotonic() + _LAUNCHER_SECONDS
    while stops.number is None and time.monotonic() < last:
        time.sleep(0.05)
    rank = os.environ.get("RANK", "?")
    told = f"rank {rank}: another process of this launch has ended ({gone}); what that one says is the reason"
    return told, 1 if stops.number is None else 128 + stops.number
