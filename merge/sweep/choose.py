"""The points of a sweep: scores, differences from the first model alone, guardrails; and the weight to take."""

from collections.abc import Mapping
from dataclasses import dataclass

from apo_soup.statistics import Difference, paired_difference
from merge.scores import Metrics, item_gains


@dataclass(frozen=True)
class SweepPoint:
    """One weight of the first model: scores, differences from weight 1, and the guardrails that fall."""

    weight: float
    scores: dict[str, float]
    differences: dict[str, Difference]
    fallen: tuple[str, ...]


@dataclass(frozen=True)
class ChosenWeight:
    """The weight to take, and those that the items do not separate from it."""

    weight: float
    alike: tuple[float, ...]


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


def sweep_point(
    weight: float,
    metrics: Metrics,
    reference: Metrics,
    metric: str,
    guardrails: Mapping[str, float],
    test: PairedTest,
) -> SweepPoint:
    """One point's scores in the metric and the guardrails, and what it gains on the reference.

    Args:
        guardrails: by metric, the margin by which it may be worse.

    Raises:
        UserError: the suite does not have a metric.
    """
    names = [metric, *guardrails]
    differences = {name: test.gain(reference, metrics, name) for name in names}
    fallen = []
    for name, margin in guardrails.items():
        high = differences[name].high
        if high is not None and high < -margin:
            fallen.append(name)
    return SweepPoint(weight, {name: metrics[name]["value"] for name in names}, differences, tuple(fallen))


def chosen_weight(
    points: list[SweepPoint], metrics: Mapping[float, Metrics], metric: str, test: PairedTest
) -> ChosenWeight:
    """The best score among the points whose guardrails hold; among equal scores the one nearest to the soup."""
    standing = [p for p in points if not p.fallen]
    best = max(standing, key=lambda p: (p.differences[metric].value, p.weight))
    alike = tuple(
        p.weight
        for p in standing
        if p is not best and not test.gain(metrics[p.weight], metrics[best.weight], metric).beyond_noise
    )
    return ChosenWeight(best.weight, alike)
