"""A process of its own that imports transformers while weights are averaged, and then tries to load what was written.

    with LoadProcess() as loads:
        loads.start(folder)               # of a model such as the one that is to be written
        ...                               # average and write
        found = loads.faults(folder, where)

Importing transformers and a model's class takes longer than averaging a gigabyte, and one process runs one import or
the other work at a time. It ends with the one that started it, however that ends: its input is then closed.
"""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

from apo_soup.errors import UserError
from apo_soup.resources import project_environment

if TYPE_CHECKING:
    from merge.loading import LoadingFaults

# -P: no folder of the caller's stands before ours where modules are looked for.
COMMAND = (sys.executable, "-P", "-c", "from merge.load_process import serve; serve()")


class LoadProcess:
    """Loads folders in another process where that was started, and in this one where it was not, or has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def start(self, like: Path) -> None:
        """Begin to import transformers in another process, if this one has not done so already, and the class of the
        model in a folder, where one is there.
        """
        if self._process is None and "transformers.modeling_utils" not in sys.modules:
            pipe, environment = subprocess.PIPE, project_environment()
            command = (*COMMAND, str(like.absolute()))
            self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)

    def faults(self, folder: Path, where: str) -> "LoadingFaults | None":
        """As `merge.loading.loading_faults`.

        Raises:
            UserError: transformers refuses the folder.
        """
        from merge.loading import loading_faults

        reply = self._asked({"folder": str(folder.absolute()), "where": where})
        if reply is None:
            return loading_faults(folder, where)
        if "refused" in reply:
            raise UserError(reply["refused"])
        return {kind: set(names) for kind, names in reply["faults"].items()} if reply["faults"] is not None else None

    def _asked(self, request: dict[str, str]) -> dict[str, Any] | None:
        """The other process's reply; None where there is no such process any more."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            return None
        try:
            print(json.dumps(request), file=process.stdin, flush=True)
            reply: dict[str, Any] | None = json.loads(process.stdout.readline() or "null")
        except BrokenPipeError:
            return None
        return reply

    def __enter__(self) -> "LoadProcess":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()


def serve() -> None:
    """Answer requests, one a line, until the input ends."""
    requests, replies = sys.stdin, _replies()
    from merge.loading import loading_faults, model_class

    # What takes the time. A configuration that cannot be read is told by what reads it before the merge.
    with suppress(OSError, ValueError, AttributeError):
        model_class(json.loads((Path(sys.argv[1]) / "config.json").read_text(encoding="utf-8")))

    for line in requests:
        request = json.loads(line)
        try:
            found = loading_faults(Path(request["folder"]), request["where"])
            reply: dict[str, Any] = {
                "faults": None if found is None else {kind: sorted(names) for kind, names in found.items()}
            }
        except UserError as refusal:
            reply = {"refused": str(refusal)}
        print(json.dumps(reply), file=replies, flush=True)


def _replies() -> IO[str]:
    """Where replies go: the standard output, which from now on is the standard error for whatever else is printed."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies
