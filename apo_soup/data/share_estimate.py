"""What a mixture will be, as far as the first rows of its sources tell: its shares in rows and in trained tokens."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from apo_soup.config.mixture import TrainedSourceKeys
from apo_soup.data.documents import Document, RowToEncode
from apo_soup.data.encode import RowEncoder
from apo_soup.data.sources.chunks import count_rows
from apo_soup.data.sources.mixture import MixtureSource
from apo_soup.data.sources.read import read_rows
from apo_soup.runs.sources import row_files

SAMPLED_ROWS, SAMPLED_CHARACTERS = 200, 1_000_000


@dataclass(frozen=True)
class SampledSource:
    """A source as its first rows tell of it: how many rows it has (None where that is not known before they are read),
    the part of them that is kept, their mean trained tokens, and what the recipe asks for.
    """

    name: str
    count: int | None
    kept: float
    trained: float
    weight: float
    token_share: float | None


def first_rows(rows: Iterable[RowToEncode], count: int) -> Iterator[RowToEncode]:
    """The first rows of a source: `count` of them, and more for an estimate as long as they are not too large."""
    size = 0
    for number, row in enumerate(rows):
        size += row.row.size
        if number >= count and (number >= SAMPLED_ROWS or size > SAMPLED_CHARACTERS):
            return
        yield row


def sampled(
    entry: MixtureSource, keys: TrainedSourceKeys, rows: list[RowToEncode], encoder: RowEncoder, where: str
) -> SampledSource:
    """What the first drawn rows of a source tell; the rest of a local file is counted, not encoded.

    Raises:
        UserError: a file is not there, or is of a kind that is not read.
    """
    documents = [result for result in encoder(rows).results if isinstance(result, Document)]
    count = count_rows(entry.source, where)
    if count is None and row_files(entry.source.id, where):
        count = sum(1 for _ in read_rows(entry.source, where))
    trained = sum(document.trained for document in documents) / max(1, len(documents))
    kept = len(documents) / max(1, len(rows))
    return SampledSource(entry.source.name, count, kept, trained, entry.source.weight, keys.token_share)


def estimated_shares(sources: list[SampledSource]) -> list[dict[str, Any]]:
    """As `Statistics.shares`, estimated; empty where a source's rows cannot be counted before they are read."""
    counts = [source.count for source in sources if source.count is not None]
    if len(counts) < len(sources):
        return []
    rows = [n * source.kept * source.weight for n, source in zip(counts, sources, strict=True)]
    asked = [source.token_share for source in sources if source.token_share is not None]
    if len(asked) == len(sources) and all(source.trained for source in sources):
        tokens = [n * source.trained for n, source in zip(rows, sources, strict=True)]
        whole = min(n / share for n, share in zip(tokens, asked, strict=True))
        rows = [share * whole / source.trained for share, source in zip(asked, sources, strict=True)]
    trained = [n * source.trained for n, source in zip(rows, sources, strict=True)]
    return [
        {
            "source": source.name,
            "rows": round(n),
            "rows_share": n / (sum(rows) or 1),
            "trained": round(tokens),
            "trained_share": tokens / (sum(trained) or 1),
        }
        for source, n, tokens in zip(sources, rows, trained, strict=True)
    ]
