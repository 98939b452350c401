"""Start another project's program, in an environment of its own, without this one's secrets."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from apo_soup.errors import UserError

# What of this process's environment a foreign program may see: it may run what a model wrote.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "HF_HUB_OFFLINE")
# Lines of its last words that are told.
LAST_LINES = 3


def run_outside(words: Sequence[str | Path], folder: Path, where: str, needed: str) -> None:
    """Run a program to its end, in a folder, with nothing on standard input.

    Args:
        where: `FILE:LINE: KEY` of what names the program, for messages.
        needed: what is expected to be there, in words.

    Raises:
        UserError: it cannot be started, or fails, with its last words.
    """
    environment = {name: os.environ[name] for name in PASSED_ON if name in os.environ} | {"PYTHONPATH": str(folder)}
    try:
        ended = subprocess.run(
            [str(word) for word in words], cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, errors="replace",
        )  # fmt: skip
    except OSError as error:
        raise UserError(f"{where}: expected {needed}, got none that starts: {error}; correct the path") from error
    if ended.returncode:
        told = " / ".join((ended.stderr.strip() or ended.stdout.strip()).splitlines()[-LAST_LINES:])
        raise UserError(
            f"{where}: expected {needed}, got one that failed with exit code {ended.returncode}: {told}; install what "
            "it lacks into its environment"
        )
