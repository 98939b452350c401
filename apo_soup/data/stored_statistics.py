"""What is read of a preparation's stats.json, so that one that is damaged is made again."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from apo_soup.stored_json import Count, Form, json_of_form

STATISTICS = "stats.json"


class RowCounts(Form):
    """Counts of rows and tokens: those of a source in a mode, or the sums of all."""

    read: Count
    kept: Count
    rejected: Count
    dropped: Count
    not_drawn: Count
    long: Count
    duplicate: Count
    contaminated: Count
    tokens: Count
    trained: Count
    reasoning: Count
    lost: Count
    cut: Count
    samples: Count
    shortened: Count
    shortened_turns: Count
    mean_length: float


class ModeCounts(RowCounts):
    """The counts of a source in a mode."""

    source: str
    mode: str
    p95_length: float


class TotalCounts(RowCounts):
    """The sums of all sources."""

    think_share: float


class SourceShare(Form):
    """A source's part of the mixture."""

    source: str
    rows: Count
    trained: Count
    rows_share: float
    trained_share: float
    token_share: float | None = None


class UnreadField(Form):
    """A field of a source's rows that nothing reads."""

    source: str
    field: str
    rows: Count


class RemarkOnRows(Form):
    """What is to be said of some rows of a source."""

    source: str
    remark: str
    rows: Count


class LengthLimit(Form):
    """How long a document may be, and what becomes of a longer one."""

    max_length: Count
    overflow: str


class HeldOutRows(Form):
    """The rows that were held out."""

    rows: Count
    prompts: Count
    asked: Count
    near_prompts: Count


class PackedSequences(Form):
    """The sequences that rows were packed into."""

    rows: Count
    sequences: Count
    tokens: Count
    trained: Count
    filled: float
    untrained: Count


class StoredStatistics(Form):
    """The whole file."""

    sources: list[ModeCounts]
    total: TotalCounts
    shares: list[SourceShare]
    length: LengthLimit
    unread_fields: list[UnreadField]
    remarks: list[RemarkOnRows]
    held_out: HeldOutRows | None
    packed: PackedSequences | Annotated[dict[str, Any], Field(max_length=0)]


def read_statistics(folder: Path) -> dict[str, Any]:
    """The statistics of prepared rows.

    Raises:
        OSError: the file cannot be read.
        OtherFormError: it is cut, empty or of another form.
    """
    return json_of_form(folder / STATISTICS, StoredStatistics)
