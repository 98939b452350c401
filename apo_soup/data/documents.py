"""A row on its way to tokens, and what becomes of it."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from apo_soup.data.conversations.formats import Format
from apo_soup.data.duplicates import Fingerprint
from apo_soup.data.prompt_marks import PromptMark
from apo_soup.data.sources.rows import SourceRow
from apo_soup.data.sources.source import Source

PAIR_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
# Whether an answer of a pair was cut off at `max_length`.
TRUNCATED_COLUMN = "truncated"
# Of a training row: its kept rows, a number for each document; `PLACES_FILE` has their places, a line each.
ROWS_COLUMN = "rows"
PLACES_FILE = "places.jsonl"
SEQUENCE_COLUMNS = ("input_ids", "trained_ranges", "seq_lengths")
Array = np.ndarray


@dataclass(slots=True)  # not frozen, which would take four times as long
class RowToEncode:
    """A row on its way: what it is, how often it is taken, and whether the mask check looks at it."""

    source: Source
    row: SourceRow
    format: Format
    times: int
    checked: bool


@dataclass(slots=True)
class Document:
    """A row as tokens. `parts` of a supervised row: ids `[S]` and trained ranges `[2k]` for each piece of it (one,
    unless it was split); of a preference row: ids of prompt, chosen and rejected.

    `tokens` are those of all parts, `trained` those with a loss, `reasoning` trained ones inside think blocks, `lost`
    those cut off or dropped for length. `samples` are the documents that a conversation was unrolled into, `shortened`
    its answers whose reasoning the template leaves out of the history.
    """

    mode: str
    parts: list[tuple[Array, ...]]
    tokens: int
    trained: int
    reasoning: int
    lost: int
    fingerprint: Fingerprint | None = None
    prompt: PromptMark | None = None
    samples: int = 1
    shortened: int = 0


@dataclass(frozen=True)
class Refused:
    """A row that is not trained on.

    It is `rejected` because it is at fault, `long` where `max_length` leaves nothing of it to train on or the recipe
    drops what is longer, `duplicate` or `contaminated` as the recipe asks. `lost` are the tokens of a long row.
    """

    kind: str
    reason: str
    lost: int = 0


def longer_than(limit: int, count: int) -> str:
    """Why `overflow: drop` leaves a row of `count` tokens out."""
    return (
        f"expected at most max_length {limit} tokens, got {count}, which overflow: drop leaves out; raise max_length, "
        "or write overflow: truncate"
    )


@dataclass
class Batch:
    """What became of the rows of a batch, in their order, the template arguments that they used, and in how many rows
    of a source each field stands that nothing reads, or each remark holds.
    """

    rows: list[RowToEncode]
    results: list[Document | Refused]
    arguments: set[str] = field(default_factory=set)
    unread: Counter[tuple[str, str]] = field(default_factory=Counter)
    remarks: Counter[tuple[str, str]] = field(default_factory=Counter)
