"""Programs that a program of ours starts in its turn, forked too, in place of `subprocess.Popen`.

A walk over a setting starts an evaluation a point; each would import torch, transformers and TRL anew.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

# Names the socket at which `preloaded.py` is asked.
VARIABLE = "PRELOADED_STARTS"
OURS = ("apo_soup", "sft", "apo", "apo.pairs", "apo.traces", "merge", "merge.sweep", "apo_soup.toy")


class Started:
    """As much of `subprocess.Popen` as `apo_soup.children` takes."""

    def __init__(self, words: list[str], output: Any, environment: dict[str, str], place: str):
        self._asking = socket.socket(socket.AF_UNIX)
        self._asking.connect(place)
        asked = {"words": words[1:], "cwd": os.getcwd(), "environment": environment}
        files = [output.fileno() if output is not None else 1, 2]
        socket.send_fds(self._asking, [json.dumps(asked).encode()], files)
        self._replies = self._asking.makefile()
        self.pid = int(self._replies.readline())

    def wait(self) -> int:
        """Its exit code, when it has ended."""
        code = int(self._replies.readline())
        self._replies.close()
        self._asking.close()
        return code


def fork_what_is_started(place: Callable[[], str] = lambda: os.environ[VARIABLE]) -> None:
    """From now on our programs that `apo_soup.children` starts in this process are forked. All else is started as ever,
    and so is what has other settings of the Hub, which its library reads when it is imported.
    """
    if sys.platform != "linux":
        return
    from apo_soup import children

    def of_hub(environment: Any) -> dict[str, str]:
        return {name: value for name, value in environment.items() if name.startswith("HF_")}

    imported_with = of_hub(os.environ)

    def popen(words: Any, stdout: Any = None, env: Any = None, **more: Any) -> Any:
        environment = dict(os.environ if env is None else env)
        ours = list(words[:2]) == [sys.executable, "-m"] and words[2] in OURS
        if not ours or more or of_hub(environment) != imported_with:
            return subprocess.Popen(words, stdout=stdout, env=env, **more)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        return Started(list(words), stdout, environment, place())

    children.subprocess = SimpleNamespace(Popen=popen, PIPE=subprocess.PIPE)
