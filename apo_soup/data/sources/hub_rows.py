"""Rows of a dataset on the Hub, streamed or from the cache.

They are read in a process of their own: what takes a reader with it, as a damaged file can, costs that process, and the
dataset is named.
"""

from collections.abc import Iterator
from itertools import repeat
from multiprocessing import current_process
from typing import Any

from apo_soup.data.sources.rows import ARBITRARY, ROWS_A_READ, SourceRow, text_length, without_nulls
from apo_soup.data.sources.source import Source
from apo_soup.data.workers import WorkerEnded, in_processes
from apo_soup.errors import UserError, first_line
from apo_soup.runs.sources import hub_commit


def hub_rows(source: Source, where: str) -> Iterator[SourceRow]:
    """Rows of a Hub dataset in their order.

    Raises:
        UserError: the dataset cannot be loaded, stops in the middle, or takes its reader with it.
    """
    number = 0
    for batch in _batches_read_apart(source, where):
        for values in zip(*batch.values(), strict=True):
            fields = without_nulls(dict(zip(batch, values, strict=True)), ARBITRARY if source.keep_nulls else ())
            yield SourceRow(f"{source.name}:row {number}", fields, size=text_length(fields))
            number += 1


def _batches_read_apart(source: Source, where: str) -> Iterator[dict[str, list[Any]]]:
    """What `_hub_batches` gives, made in another process, unless this one may start none."""
    if current_process().daemon:
        yield from _hub_batches(source, where)
        return
    number = 0
    try:
        for batch in in_processes(_NextBatch(source, where), repeat(True), 1):
            if batch is None:
                return
            yield batch
            number += len(next(iter(batch.values())))
    except WorkerEnded as error:
        raise UserError(
            f"{where}: source {source.name}: expected a dataset that can be read, got one whose reader was ended "
            f"{error.ended} after {number:,} rows; remove it from the caches of the Hub and of datasets to have it "
            "fetched again, or look whether memory is short"
        ) from error


class _NextBatch:
    """The next of a dataset's batches each time it is called, None behind the last."""

    def __init__(self, source: Source, where: str):
        self.source, self.where = source, where
        self.batches: Iterator[dict[str, list[Any]]] | None = None

    def __call__(self, wanted: bool) -> dict[str, list[Any]] | None:
        self.batches = self.batches or _hub_batches(self.source, self.where)
        return next(self.batches, None)


def _hub_batches(source: Source, where: str) -> Iterator[dict[str, list[Any]]]:
    """Columns of some rows at a time. Whatever the library raises, the network's errors among them, is the source's."""
    from datasets import load_dataset

    # The commit that the prepared folder is named by, so that rows and name cannot part.
    commit = hub_commit("dataset", source.id, source.revision)
    number = 0
    try:
        table = load_dataset(source.id, source.config, split=source.split, revision=commit, streaming=source.streaming)
        for batch in table.iter(ROWS_A_READ):
            yield batch
            number += len(next(iter(batch.values())))
    except Exception as error:
        reached = f" after row {number}" if number else ""
        raise UserError(
            f"{where}: source {source.name}: expected a dataset, got {type(error).__name__} from the Hub{reached}: "
            f"{first_line(error)}; check id, config and split, or give a local file"
        ) from error
