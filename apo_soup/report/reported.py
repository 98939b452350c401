"""What SmolLM3's makers reported of their stages, asked of a run's own figures, item by item.

Reasoning is gained by supervised fine-tuning, alignment by preference optimisation; long context is lost on the way and
won back by the merge (SmolLM3 report, July 2025).
"""

from dataclasses import dataclass

from apo_soup.runs.results import Stage
from apo_soup.statistics import Difference, paired_gain


@dataclass(frozen=True)
class Claim:
    """One statement: the metric it is read from, both stages with their scores, and the gain on the same items."""

    told: str
    metric: str
    before: str
    after: str
    scores: tuple[float, float]
    gain: Difference
    falls: bool = False

    @property
    def verdict(self) -> str:
        """`seen`, `not seen` (within noise), or `the opposite`."""
        if not self.gain.beyond_noise:
            return "not seen, within noise"
        return "seen" if (self.gain.value < 0) == self.falls else "the opposite is seen"


def gain_between(before: Stage, after: Stage, metric: str) -> Difference | None:
    """How much better `after` is than `before`, item by item; None where they were not asked the same items."""
    one, two = before.results["metrics"].get(metric), after.results["metrics"].get(metric)
    if not one or not two or asked(before, metric) != asked(after, metric):
        return None
    return paired_gain(one, two)


def asked(stage: Stage, metric: str) -> str | None:
    """The hash of the items that a metric's task asked."""
    return next((t["rows"] for t in stage.results["tasks"].values() if metric in t["metrics"]), None)


def of_kind(stage: Stage, kind: str) -> list[str]:
    """Headline metrics of the tasks of a kind, in the suite's order."""
    tasks = [t for t in stage.results["tasks"].values() if t["kind"] == kind]
    return [m for t in tasks for m in t["metrics"] if stage.results["metrics"][m]["headline"]]


def by_number(metric: str) -> tuple[float, str]:
    """Sort key of a metric that ends in a length; one that ends otherwise comes first."""
    last = metric.rsplit("/", 1)[-1]
    return (float(last) if last.isdigit() else -1.0, metric)


def claims(stages: list[Stage]) -> list[Claim]:
    """Every statement that the run's stages and tasks can answer."""
    by_name = {stage.name: stage for stage in stages}
    found = []
    any_stage = stages[0] if stages else None
    if any_stage is None:
        return []
    thinking = [m for m in of_kind(any_stage, "answer") if m.endswith("/think")]
    preferred = of_kind(any_stage, "preference")
    lengths = sorted(of_kind(any_stage, "recall"), key=by_number)
    for told, metrics, before, after, falls in (
        ("Reasoning is gained by fine-tuning", thinking[:1], "base", "sft", False),
        ("Alignment is gained by preference optimisation", preferred[:1], "sft", "soup", False),
        ("Long context is lost on the way", lengths[-1:], "base", "soup", True),
        ("Long context is won back by the merge", lengths[-1:], "soup", "merged", False),
    ):
        if not metrics or before not in by_name or after not in by_name:
            continue
        one, two = by_name[before], by_name[after]
        gain = gain_between(one, two, metrics[0])
        if gain:
            scores = tuple(s.results["metrics"][metrics[0]]["value"] for s in (one, two))
            found.append(Claim(told, metrics[0], before, after, scores, gain, falls))
    return found
