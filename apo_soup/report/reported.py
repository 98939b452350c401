"""What SmolLM3's makers reported of their stages, asked of a run's own figures, item by item.

Reasoning is gained by mid-training and supervised fine-tuning, alignment by preference optimisation; long context is
lost on the way and won back by the merge (SmolLM3 report, July 2025).
"""

import re
from dataclasses import dataclass

from apo_soup.runs.results import EvaluatedCheckpoint
from apo_soup.statistics import Difference, paired_gain

# The share of right answers in think mode, of one answer to a question or of several.
THINKING_SHARE = re.compile(r"/think(/avg@\d+)?$")


@dataclass(frozen=True)
class Finding:
    """One statement: the metric it is read from, both stages with their scores, and the gain on the same items."""

    statement: str
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


def gain_between(before: EvaluatedCheckpoint, after: EvaluatedCheckpoint, metric: str) -> Difference | None:
    """How much better `after` is than `before`, item by item; None where they were not asked the same items."""
    one, two = before.results["metrics"].get(metric), after.results["metrics"].get(metric)
    if not one or not two or items_hash(before, metric) != items_hash(after, metric):
        return None
    return paired_gain(one, two)


def items_hash(stage: EvaluatedCheckpoint, metric: str) -> str | None:
    """The hash of the items that a metric's task asked."""
    return next((t["rows"] for t in stage.results["tasks"].values() if metric in t["metrics"]), None)


def headline_metrics_of_kind(stage: EvaluatedCheckpoint, kind: str) -> list[str]:
    """Headline metrics of the tasks of a kind, in the suite's order."""
    tasks = [t for t in stage.results["tasks"].values() if t["kind"] == kind]
    return [m for t in tasks for m in t["metrics"] if stage.results["metrics"][m]["headline"]]


def thinking_metrics(stage: EvaluatedCheckpoint) -> list[str]:
    """The shares of right answers in think mode, in the suite's order."""
    return [m for m in headline_metrics_of_kind(stage, "answer") if THINKING_SHARE.search(m)]


def length_order(metric: str) -> tuple[float, str]:
    """Sort key of a metric that ends in a length; one that ends otherwise comes first."""
    last = metric.rsplit("/", 1)[-1]
    return (float(last) if last.isdigit() else -1.0, metric)


def reported_findings(stages: list[EvaluatedCheckpoint]) -> list[Finding]:
    """Every statement that the run's stages and tasks can answer."""
    by_name = {stage.name: stage for stage in stages}
    findings: list[Finding] = []
    if not stages:
        return findings
    thinking = thinking_metrics(stages[0])
    preferred = headline_metrics_of_kind(stages[0], "preference")
    lengths = sorted(headline_metrics_of_kind(stages[0], "recall"), key=length_order)
    for statement, metrics, before, after, falls in (
        ("Reasoning is gained by mid-training", thinking[:1], "base", "mid", False),
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
            findings.append(Finding(statement, metrics[0], before, after, scores, gain, falls))
    return findings
