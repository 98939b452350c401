"""Scores with their noise, and what is kept of a metric for comparing it item by item."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from apo_soup.statistics import Score, mean, share


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
        kept = {"value": self.score.value, "low": self.score.low, "high": self.score.high, "n": self.score.n}
        kept |= {"better": self.better, "headline": self.headline}
        if self.items is not None:
            kept["items"] = [int(i) if isinstance(i, bool) else round(i, 6) for i in self.items]
        return kept


def item_metric(items: Sequence[float], better: str | None = "higher", headline: bool = False) -> Metric:
    """The mean of items: a share where each is 0 or 1, which a normal interval would put at no noise near the ends."""
    if items and set(items) <= {0.0, 1.0}:
        return Metric(share([bool(i) for i in items]), [bool(i) for i in items], better, headline)
    score = mean(items)
    if score.low is not None and min(items) >= 0 and max(items) <= 1:  # a mean of shares is one
        score = replace(score, low=max(0.0, score.low), high=min(1.0, score.high))
    return Metric(score, items, better, headline)


def hit_metric(hits: Sequence[bool], headline: bool = False) -> Metric:
    return Metric(share(hits), list(hits), headline=headline)
