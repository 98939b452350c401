"""A run folder that the processes of a launch do not share, found before the first step.

Checkpoints are written by one process and read by all: on a disk of its own, another node would begin anew while
this one goes on.
"""

import os
import socket
import time
from pathlib import Path
from uuid import uuid4

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from apo_soup.errors import UserError
from apo_soup.progress import is_main

# A network disk may show a new file late.
LOOKED_FOR_SECONDS = 60.0
_PAUSE_SECONDS = 0.2


def check_shared(folder: Path, where: str, seconds: float = LOOKED_FOR_SECONDS) -> None:
    """Let the main process write a token into a folder, and every process look for it; called by all of them.

    Args:
        where: what names the folder: file, line and key.
        seconds: how long each process looks.

    Raises:
        UserError: on all processes, where one does not see it.
    """
    if PartialState().num_processes == 1:
        return
    token = [uuid4().hex]
    broadcast_object_list(token)
    file = folder / f".seen-{token[0]}"
    if is_main():
        file.touch()
    PartialState().wait_for_everyone()
    unseen = [] if _appears(file, seconds) else [f"rank {os.environ.get('RANK', '0')} on {socket.gethostname()}"]
    blind = gather_object(unseen)
    if is_main():
        file.unlink()
    if blind:
        raise UserError(
            f"{where}: expected a folder that all processes share, got {folder}, where {', '.join(blind)} does not see "
            "what rank 0 wrote; name one on a disk that all nodes mount"
        )


def _appears(file: Path, seconds: float) -> bool:
    last = time.monotonic() + seconds
    while not file.is_file():
        if time.monotonic() > last:
            return False
        time.sleep(_PAUSE_SECONDS)
    return True
