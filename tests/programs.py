"""Programs that tests start as processes of their own, forked from one that has imported the libraries.

A stage takes a second or two on a model of this size; to import torch, transformers and TRL before it takes four.
"""

import functools
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired

from helpers import ENVIRONMENT, ROOT
from started import VARIABLE


@functools.cache
def preloaded(of_hub: tuple[tuple[str, str], ...] = ()) -> subprocess.Popen:
    """The process that forks, one for all tests of a worker; it ends when the worker does.

    Args:
        of_hub: other variables of the Hub's library, which it reads when it is imported.
    """
    words = [sys.executable, str(ROOT / "tests" / "preloaded.py")]
    kept = {n: v for n, v in ENVIRONMENT.items() if not (of_hub and n.startswith("HF_"))}
    environment = kept | {VARIABLE: f"{tempfile.mkdtemp(prefix='started')}/socket"} | dict(of_hub)
    process = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    process.asked_at = environment[VARIABLE]
    return process


def asked_at() -> str:
    """The socket at which programs of this process have others started, when there is somebody to answer."""
    place, last = preloaded().asked_at, time.monotonic() + 120
    while not os.path.exists(place):
        assert time.monotonic() < last, "no answer from preloaded.py"
        time.sleep(0.02)
    return place


def is_running(number: int) -> bool:
    """Whether a process is there, and is more than what it left for its parent."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


class Programs:
    """Processes that were started at once, and run. One such group runs at a time."""

    def __init__(
        self,
        *words: str | Path,
        cwd: Path = ROOT,
        stdin: str | Path = os.devnull,
        environments: tuple[dict, ...] = ({},),
        apart: bool = False,
        of_hub: tuple[tuple[str, str], ...] = (),
    ):
        """`apart`: where one fails, the others go on, as those of two people do; else they end, as ranks do. `of_hub`:
        see `preloaded`.
        """
        self.of_hub = of_hub
        self.words = [str(word) for word in words]
        self.outputs = Path(tempfile.mkdtemp(prefix="programs"))
        asked = [
            {"words": self.words, "cwd": str(cwd), "stdin": str(stdin), "environment": environment}
            | {name: str(self.outputs / f"{name}{number}") for name in ("stdout", "stderr")}
            for number, environment in enumerate(environments)
        ]
        preloaded(of_hub).stdin.write(json.dumps({"processes": asked, "apart": apart}).encode() + b"\n")
        self.ids: list[int] = []  # of a server that does not start there are none to end
        self.ids = self._reply(120)

    def _reply(self, timeout: float) -> list[int]:
        server = preloaded(self.of_hub)
        if not select.select([server.stdout], [], [], timeout)[0]:
            self.kill()
            # What it would still answer is not the next one's.
            server.kill()
            preloaded.cache_clear()
            raise TimeoutExpired(self.words, timeout)
        return json.loads(server.stdout.readline())

    def running(self) -> bool:
        """Whether one of them still does."""
        return any(map(is_running, self.ids))

    def kill(self) -> None:
        """End all of them as a machine that fails does."""
        for number in self.ids:
            os.kill(number, signal.SIGKILL)

    def output(self, name: str = "stdout") -> str:
        """What they have written until now, one after another."""
        return "".join(file.read_text() for file in sorted(self.outputs.glob(f"{name}*")))

    def wait(self, timeout: float = 300) -> CompletedProcess:
        """The end of all: the first exit code that is not 0, and what they wrote, one after another."""
        self.codes = self._reply(timeout)
        code = next((code for code in self.codes if code), 0)
        written = self.output("stdout"), self.output("stderr")
        shutil.rmtree(self.outputs)
        return CompletedProcess(self.words, code, *written)


def program(*words: str | Path, cwd: Path = ROOT) -> CompletedProcess:
    """Run `python WORDS` with one thread and no network tried."""
    return Programs(*words, cwd=cwd).wait()


def two_ranks(*words: str | Path, cwd: Path = ROOT) -> Programs:
    """Start two ranks of `python WORDS` with the variables that torchrun gives them."""
    return ranks(2, *words, cwd=cwd)


def ranks(count: int, *words: str | Path, cwd: Path = ROOT) -> Programs:
    """Start so many ranks of `python WORDS`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    size = str(count)
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    each = tuple(shared | {"RANK": str(r), "LOCAL_RANK": str(r)} for r in range(count))
    return Programs(*words, cwd=cwd, environments=each)


def run_ok(*words: str | Path, cwd: Path = ROOT) -> str:
    """Run `python WORDS`, which must succeed; returns what it printed."""
    return succeeded(program(*words, cwd=cwd))


def succeeded(result: CompletedProcess) -> str:
    """What a program printed, which must have succeeded."""
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def kill_at(started: Programs, mark: Path) -> None:
    """Kill what was started once a file is there, which must be before it ends."""
    kill_when(started, mark.exists)


def kill_when(started: Programs, ready: Callable[[], bool]) -> None:
    """Kill what was started once something holds, which must be before it ends."""
    while not ready():
        assert started.running(), "it ended before it could be killed"
        time.sleep(0.002)
    started.kill()
    started.wait()
