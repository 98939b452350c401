"""The points of a walk: scores, differences from what all are compared with, guardrails; and the point to take."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from apo_soup.config.choosing_keys import ChoosingKeys
from apo_soup.errors import UserError
from apo_soup.statistics import Difference, paired_difference
from apo_soup.sweep.scores import Metrics, item_gains

# Metric by metric, how far a score may fall where the file names no guardrails: not at all beyond noise.
DEFAULT_MARGIN = 0.0
# What a point is known by: a weight, or a name.
Label = TypeVar("Label", bound=float | str)


@dataclass(frozen=True)
class WalkedPoint(Generic[Label]):
    """One point: scores, differences from what all are compared with, and the guardrails that fall. A point that fell
    before everything was measured lacks the rest; one that failed has nothing but the reason.
    """

    label: Label
    scores: dict[str, float]
    differences: dict[str, Difference]
    fallen: tuple[str, ...]
    failed: str | None = None


@dataclass(frozen=True)
class ChosenPoint(Generic[Label]):
    """The point to take, and those that the items do not separate from it."""

    label: Label
    alike: tuple[Label, ...]


@dataclass(frozen=True)
class PairedTest:
    """How two points are compared on the same items: bootstrap draws, their seed, and where a mistake is told."""

    draws: int
    seed: int
    where: str

    def gain(self, reference: Metrics, metrics: Metrics, name: str) -> Difference:
        """What `metrics` gains on `reference` in one metric, item by item; plus is better, for a loss too.

        Raises:
            UserError: the suite has no such metric with items, or nobody knows which way it is better.
        """
        before, after = item_gains(reference, name, self.where), item_gains(metrics, name, self.where)
        return paired_difference(before, after, self.draws, self.seed)


@dataclass(frozen=True)
class Yardstick:
    """What the points of a walk are measured by.

    Attributes:
        metric: the score that is to be best.
        guardrails: by metric, the margin by which it may be worse.
        reference: the scores of what all points are compared with.
        test: how they are.
    """

    metric: str
    guardrails: dict[str, float]
    reference: Metrics
    test: PairedTest

    @classmethod
    def of(cls, keys: ChoosingKeys, reference: Metrics, where: str) -> "Yardstick":
        """That of a file; by default its first headline score is to be best, and the others are guardrails.

        Args:
            where: the place of the key `metric`.

        Raises:
            UserError: the suite has no such metric with items, or nobody knows which way it is better.
        """
        known = [n for n, m in reference.items() if m.get("items") is not None and m["headline"]]
        if not known:
            raise UserError(
                f"{where}: expected a score with single items to choose a point by, got none; name other tasks"
            )
        metric, guardrails = keys.metric or known[0], keys.guardrails
        if guardrails is None:
            guardrails = {n: DEFAULT_MARGIN for n in known if n != metric}
        test = PairedTest(keys.bootstrap, keys.seed, where)
        for name in (metric, *guardrails):
            if test.gain(reference, reference, name).low is None and name in guardrails:
                told = f"expected guardrails with an interval, got {name} of a single item, which can never fall"
                raise UserError(f"{where}: {told} beyond noise; give it more items, or leave it out")
        return cls(metric, dict(guardrails), reference, test)

    @property
    def names(self) -> list[str]:
        """The metric and the guardrails, each once."""
        return list(dict.fromkeys((self.metric, *self.guardrails)))

    def point(self, label: Label, metrics: Metrics, partly: bool = False) -> WalkedPoint[Label]:
        """One point's scores in the metric and the guardrails, and what it gains on the reference.

        Args:
            partly: whether some of these may not be measured at this point.

        Raises:
            UserError: the suite does not have a metric.
        """
        names = [name for name in self.names if name in metrics or not partly]
        differences = {name: self.test.gain(self.reference, metrics, name) for name in names}
        fallen = []
        for name, margin in self.guardrails.items():
            high = differences[name].high if name in differences else None
            if high is not None and high < -margin:
                fallen.append(name)
        return WalkedPoint(label, {name: metrics[name]["value"] for name in names}, differences, tuple(fallen))

    def best(
        self, points: Sequence[WalkedPoint[Label]], metrics: Mapping[Label, Metrics], own: Collection[Label] = ()
    ) -> ChosenPoint[Label] | None:
        """The best score among the points whose guardrails hold; None where none holds. Of equal ones it is the file's
        own, which needs no change, else the last.

        Args:
            own: what the file says already.
        """
        standing = [p for p in points if not p.fallen and p.failed is None]
        if not standing:
            return None
        place = {p.label: number for number, p in enumerate(points)}
        best = max(standing, key=lambda p: (p.differences[self.metric].value, p.label in own, place[p.label]))
        alike = tuple(
            p.label
            for p in standing
            if p is not best and not self.test.gain(metrics[p.label], metrics[best.label], self.metric).beyond_noise
        )
        return ChosenPoint(best.label, alike)

    def as_json(self) -> dict[str, Any]:
        """As a walk's JSON has it."""
        better = {name: self.reference[name]["better"] for name in self.names}
        return {"metric": self.metric, "guardrails": self.guardrails, "better": better}
