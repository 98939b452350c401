"""What a task gives: scores with their noise, the items they are means of, and a few answers to read."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from apo_soup.data.conversations.rename_guess import likely_column
from apo_soup.data.sources.rows import Fields, RowError
from apo_soup.statistics import Score, mean_score, proportion_score

# What the column is to a row of training that a key of a task names.
MEANT_BY = {"question": "prompt", "reference": "completion"}


class PlacedRowError(RowError):
    """A fault of a row that was read, told with its place."""


class ItemRow(dict[str, Any]):
    """Fields of one item. A missing one is a RowError, so that a KeyError is always a fault of our own."""

    def __init__(self, fields: Fields, place: str = ""):
        """Take the fields of a row; `place` is its file:line where it was read."""
        super().__init__(fields)
        self.place = place

    def __missing__(self, name: str) -> Any:
        got = ", ".join(sorted(self)) or "no fields"
        raise self.refusal(f"field {name}: expected one, got a row with {got}; add it to the row")

    def under(self, key: str, name: str) -> Any:
        """The field of this name, which a task's key gives.

        Raises:
            RowError: there is none; told with the column that the key should name, where one looks like it.
        """
        if name in self:
            return self[name]
        column = likely_column(self, MEANT_BY.get(key, key))
        cure = (
            f"write {key}: {column} into the task" if column else f"add it, or name its column with {key} in the task"
        )
        got = ", ".join(sorted(self)) or "no fields"
        raise self.refusal(f"field {name}: expected one, got a row with {got}; {cure}")

    def refusal(self, told: str) -> RowError:
        """The error that the row does not fit its task."""
        return PlacedRowError(f"{self.place}: {told}") if self.place else RowError(told)


@dataclass(frozen=True)
class Metric:
    """One score of a task.

    Args:
        items: each item's share in the score, so that their mean is `score.value`; None where they are not kept.
        better: `higher`, `lower`, or None for what is neither, such as a length.
        headline: whether the score is worth a column of the stage table.
    """

    score: Score
    items: Sequence[float] | None = None
    better: str | None = "higher"
    headline: bool = False

    def as_json(self) -> dict[str, Any]:
        """As it stands in results.json."""
        fields: dict[str, Any] = {
            "value": self.score.value, "low": self.score.low, "high": self.score.high, "n": self.score.n,
            "better": self.better, "headline": self.headline,
        }  # fmt: skip
        if self.items is not None:
            fields["items"] = [int(i) if isinstance(i, bool) else round(i, 6) for i in self.items]
        return fields


@dataclass(frozen=True)
class AnswerSample:
    """An answer as people read it, in its mode; `right` is None where only the harness knows."""

    mode: str
    question: str
    answer: str
    right: bool | None


@dataclass(frozen=True)
class TaskResult:
    """Metrics of a task by name, samples of its answers, what a reader of its scores must know, and the JSON files that
    lie beside the results, by their path there.
    """

    metrics: dict[str, Metric]
    samples: list[AnswerSample] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    files: dict[str, Any] = field(default_factory=dict)


def mean_metric(items: Sequence[float], better: str | None = "higher", headline: bool = False) -> Metric:
    """The mean of items: a proportion where each is 0 or 1, since a normal interval has no width near the ends."""
    if items and set(items) <= {0.0, 1.0}:
        return proportion_metric([bool(i) for i in items], better, headline)
    score = mean_score(items)
    if score.low is not None and score.high is not None and min(items) >= 0 and max(items) <= 1:
        score = replace(score, low=max(0.0, score.low), high=min(1.0, score.high))  # a mean of proportions is one
    return Metric(score, items, better, headline)


def proportion_metric(hits: Sequence[bool], better: str | None = "higher", headline: bool = False) -> Metric:
    """The proportion of hits."""
    return Metric(proportion_score(hits), list(hits), better, headline)
