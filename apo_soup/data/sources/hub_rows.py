"""Rows of a dataset on the Hub, streamed or from the cache."""

from collections.abc import Iterator
from typing import Any

from apo_soup.data.sources.rows import ARBITRARY, ROWS_A_READ, SourceRow, text_length, without_nulls
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError, first_line
from apo_soup.runs.sources import hub_commit


def hub_rows(source: Source, where: str) -> Iterator[SourceRow]:
    """Rows of a Hub dataset in their order.

    Raises:
        UserError: the dataset cannot be loaded, or stops in the middle.
    """
    number = 0
    for batch in _hub_batches(source, where):
        for values in zip(*batch.values(), strict=True):
            fields = without_nulls(dict(zip(batch, values, strict=True)), ARBITRARY if source.keep_nulls else ())
            yield SourceRow(f"{source.name}:row {number}", fields, size=text_length(fields))
            number += 1


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
