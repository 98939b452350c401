"""A program ends with the launcher that started it: one that lived on would write beside the next start.

A shell, a terminal multiplexer or `nohup` may go and the program stays; only launchers count.
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

# Words of the command line of what starts a stage and waits for it.
LAUNCHERS = ("accelerate", "torchrun", "torch.distributed", "deepspeed", "apo-soup", "apo_soup", "merge.sweep")
_LINUX = sys.platform == "linux"
_MAKES = ("make", "gmake")
_PR_SET_PDEATHSIG = 1
# Seconds between looks where the system does not tell of a parent's end.
_LOOK_SECONDS = 1.0


def end_with_launcher() -> None:
    """Have this process sent SIGTERM when the launcher that started it ends, however that was: as on pre-emption, so
    that a training writes a checkpoint first.
    """
    parent = os.getppid()
    if not is_launcher(command_words(parent)):
        return
    if _LINUX:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    else:
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:  # it ended before the system was asked
        os.kill(os.getpid(), signal.SIGTERM)


def is_launcher(words: list[str]) -> bool:
    """Whether a command line is one that starts stages and waits for them.

    >>> is_launcher(["/usr/bin/python3", "-m", "accelerate.commands.launch"]), is_launcher(["-bash"])
    (True, False)
    >>> is_launcher(["make", "sft"]), is_launcher(["vim", "accelerate"])
    (True, False)
    """
    names = [Path(word).name for word in words[:4]]
    if not names:
        return False
    if names[0] in (*_MAKES, *LAUNCHERS):
        return True
    python = names[0].lower().startswith("python")
    return python and any(f"{name}.".startswith(f"{launcher}.") for name in names[1:] for launcher in LAUNCHERS)


def command_words(number: int) -> list[str]:
    """The command line of a process; empty where it cannot be read."""
    try:
        if _LINUX:
            return Path(f"/proc/{number}/cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
        import subprocess

        asked = subprocess.run(["ps", "-o", "command=", "-p", str(number)], capture_output=True, text=True)
        return asked.stdout.split()
    except OSError:
        return []


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_LOOK_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)
