"""Table files are read once in a process of their own before this one reads them: a damaged file that takes its reader
with it, which the libraries that decode it cannot rule out, then costs that process and is named.
"""

import contextlib
import faulthandler
import os
import signal
import sys
from collections.abc import Callable
from functools import partial

from apo_soup.config.file_names import TABLE_KINDS
from apo_soup.config.training import TrainingFile
from apo_soup.data.sources.chunks import Chunk
from apo_soup.data.sources.table_rows import read_through
from apo_soup.errors import UserError
from apo_soup.runs.sources import row_files


def require_living_readers(recipe: TrainingFile, chunks: list[list[Chunk]]) -> None:
    """Read the tables of a mixture that this process will read, in another one; of what is divided among several
    processes the first file of each source alone, which this one begins with. Nothing is decoded into rows, so it takes
    a small part of the time that the rows take. Elsewhere than on Linux nothing is looked at.

    Args:
        chunks: those of each source.

    Raises:
        UserError: a file took its reader with it.
    """
    if sys.platform != "linux":
        return
    several = (recipe.dataset_num_proc or 1) > 1
    for number, of_source in enumerate(chunks):
        where = recipe.place(f"dataset_mixture.datasets.{number}.id")
        source = recipe.dataset_mixture.datasets[number].id
        read_here = [chunk for place, chunk in enumerate(of_source) if not (several and place and chunk.divided)]
        files = [file for c in read_here for file in ([c.file] if c.file else row_files(source, where) or [])]
        for file in dict.fromkeys(file for file in files if file.suffix.lower() in TABLE_KINDS):
            ended = end_of(partial(read_through, file))
            if ended:
                raise UserError(
                    f"{where}: {file}: expected a file that can be read, got one whose reader was ended by {ended}; "
                    "write the file again, or look whether memory is short"
                )


def end_of(work: Callable[[], object]) -> str | None:
    """The signal by which a process ends that does some work; None where it ends by itself. What it raises is told when
    the work is done here.
    """
    child = os.fork()
    if child:
        status = os.waitpid(child, 0)[1]
        return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else None
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        faulthandler.disable()
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # for what a library says at its end
        with contextlib.suppress(Exception):
            work()
    finally:
        os._exit(0)
