"""The verdicts of a run for programs: one figure with its interval for each headline score that the run changed; or,
where the recipe asks, for each thing that the makers of SmolLM3 say.

A claim is seen where its figure reaches the least that is asked of it and, where it is a gain or a share of one, every
gain behind it is beyond noise. It is shown where its whole interval reaches the least too. A figure of several tasks is
the lowest of them. Where a stage or a task is not there, the claim has no figure and is not seen.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from apo_soup.report.gains import Gain
from apo_soup.report.reported import gain_between, headline_metrics_of_kind, length_order, thinking_metrics
from apo_soup.runs.results import PIPELINE, EvaluatedCheckpoint
from apo_soup.statistics import Difference

# The least that is asked of a figure.
LEAST_MID, LEAST_MODES, LEAST_PREFERENCE, LEAST_LOST, LEAST_WON_BACK, LEAST_KEPT = 0.4, 0.9, 0.2, 0.1, 0.25, 0.9
# What base may prefer at most, and what the soup must find at the shortest length.
BASE_PREFERS, SHORT_RECALL = 0.7, 0.95
# What leaves preference optimisation nothing to teach.
FULL = 0.95


@dataclass(frozen=True)
class Claim:
    """A statement's figure with its 95 % interval, the least that is asked of it, whether it is seen, and whether the
    whole interval reaches the least.
    """

    name: str
    told: str
    least: float
    value: float | None = None
    low: float | None = None
    high: float | None = None
    seen: bool = False
    shown: bool = False

    @property
    def verdict(self) -> str:
        """In words: `not known` where the run cannot answer."""
        if self.value is None:
            return "not known"
        if not self.seen:
            return "not seen"
        return "seen" if self.shown else "reached, the interval begins below"

    def as_json(self) -> dict[str, Any]:
        """As it stands in `claims`."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class Figure:
    """A value with its interval."""

    value: float
    low: float | None
    high: float | None


# A figure, and whether what else the claim asks for holds; None where the run cannot answer.
_Found = tuple[Figure, bool] | None


def own_claims(gains: list[Gain], before: str, after: str) -> list[Claim]:
    """A claim for each score of a run: that it became better, which a gain beyond noise shows."""
    return [
        Claim(
            gain.metric,
            f"gain of {after} on {before}",
            0.0,
            gain.difference.value,
            gain.difference.low,
            gain.difference.high,
            gain.tone == "good",
            gain.tone == "good",
        )
        for gain in gains
    ]


def makers_claims(checkpoints: list[EvaluatedCheckpoint]) -> list[Claim]:
    """What SmolLM3's makers say, in the order of the stages: each claim, whether the run can answer it or not."""
    stages = {c.name: c for c in checkpoints if c.name.partition("/")[0] in PIPELINE}
    counted, left_out = _preferences(stages)
    return [
        _claim("mid_reasons", "think accuracy that mid gains on base", LEAST_MID, _mid_reasons(stages)),
        _claim("two_modes", "the lower of sft's think accuracy and mode kept", LEAST_MODES, _two_modes(stages)),
        _claim(
            "preference",
            f"the lowest gain of soup on sft, of tasks where base is at {BASE_PREFERS} at most and sft below {FULL}; "
            f"no task falls{left_out}",
            LEAST_PREFERENCE,
            _preference(stages, counted),
        ),
        _claim(
            "long_context_lost",
            f"recall that soup lost at the longest length, {SHORT_RECALL} kept at the shortest",
            LEAST_LOST,
            _long_context_lost(stages),
        ),
        _claim(
            "won_back",
            "share of that loss that merged wins back, thinking and preference held",
            LEAST_WON_BACK,
            _won_back(stages),
        ),
        _claim(
            "mode_over_turns", "the lowest share of a turn that keeps the mode, from sft on", LEAST_KEPT, _turns(stages)
        ),
        _claim(
            "safety",
            "the lowest gain of soup on sft in declined requests, and answered look-alikes do not fall",
            0.0,
            _safety(stages),
        ),
        _claim(
            "consistency",
            "the lowest gain of soup on sft, of kind consistency",
            0.0,
            _lowest_gain(stages, _metrics(stages, "consistency"), "sft", "soup"),
        ),
    ]


def _claim(name: str, told: str, least: float, found: _Found) -> Claim:
    if found is None:
        return Claim(name, told, least)
    figure, holds = found
    seen = holds and figure.value >= least
    shown = seen and figure.low is not None and figure.low >= least
    return Claim(name, told, least, figure.value, figure.low, figure.high, seen, shown)


Stages = dict[str, EvaluatedCheckpoint]


def _metrics(stages: Stages, kind: str) -> list[str]:
    return _unique(metric for stage in stages.values() for metric in headline_metrics_of_kind(stage, kind))


def _thinking(stages: Stages) -> list[str]:
    return _unique(metric for stage in stages.values() for metric in thinking_metrics(stage))


def _unique(metrics: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(metrics))


def _gain(stages: Stages, metric: str, before: str, after: str) -> Difference | None:
    return gain_between(stages[before], stages[after], metric) if before in stages and after in stages else None


def _value(stages: Stages, stage: str, metric: str) -> float | None:
    return stages[stage].results["metrics"].get(metric, {}).get("value") if stage in stages else None


def _figure(gain: Difference) -> Figure:
    return Figure(gain.value, gain.low, gain.high)


def _lowest_gain(stages: Stages, metrics: list[str], before: str, after: str) -> _Found:
    """The lowest of several gains, and whether all are beyond noise; None where one is not known."""
    gains = [gain for metric in metrics if (gain := _gain(stages, metric, before, after))]
    if not gains or len(gains) < len(metrics):
        return None
    return _figure(min(gains, key=lambda gain: gain.value)), all(_gained(gain) for gain in gains)


def _gained(gain: Difference) -> bool:
    return gain.beyond_noise and gain.value > 0


def _fell(gain: Difference) -> bool:
    return gain.beyond_noise and gain.value < 0


def _lowest_level(stages: Stages, of: list[str], metrics: list[str]) -> _Found:
    """The lowest of several scores of several stages, with its interval; None where one is not known."""
    found = [stages[stage].results["metrics"].get(metric) for stage in of for metric in metrics]
    told = [score for score in found if score and score["value"] is not None]
    if not told or len(told) < len(found):
        return None
    least = min(told, key=lambda score: score["value"])
    return Figure(least["value"], least["low"], least["high"]), True


def _mid_reasons(stages: Stages) -> _Found:
    return _lowest_gain(stages, _thinking(stages), "base", "mid")


def _two_modes(stages: Stages) -> _Found:
    """None too where no task asks in both modes."""
    answers, thinking = _metrics(stages, "answer"), _thinking(stages)
    both = any(m.startswith(f"{think.partition('/')[0]}/no_think") for think in thinking for m in answers)
    kept = [metric for metric in answers if metric.endswith("/obedience")]
    return _lowest_level(stages, ["sft"], [*thinking, *kept]) if both and "sft" in stages else None


def _preferences(stages: Stages) -> tuple[list[str], str]:
    """The preference tasks that leave something to teach, and the others in words."""
    counted, others = [], []
    for metric in _metrics(stages, "preference"):
        base, sft = _value(stages, "base", metric), _value(stages, "sft", metric)
        if base is not None and sft is not None and base <= BASE_PREFERS and sft < FULL:
            counted.append(metric)
        else:
            scores = ", ".join(
                f"{stage} {'not known' if value is None else f'{value:.2f}'}"
                for stage, value in (("base", base), ("sft", sft))
            )
            others.append(f"{metric} ({scores})")
    return counted, f"; not counted: {', '.join(others)}" if others else ""


def _preference(stages: Stages, counted: list[str]) -> _Found:
    found = _lowest_gain(stages, counted, "sft", "soup")
    if found is None:
        return None
    gains = [_gain(stages, metric, "sft", "soup") for metric in _metrics(stages, "preference")]
    return found[0], found[1] and all(gain is not None and not _fell(gain) for gain in gains)


def _at_length(stages: Stages, longest: bool) -> list[str]:
    """The recall metrics of the longest or the shortest length; none where all are of one length."""
    metrics = sorted(_metrics(stages, "recall"), key=length_order)
    lengths = [length_order(metric)[0] for metric in metrics]
    if not lengths or lengths[0] == lengths[-1]:
        return []
    asked = lengths[-1] if longest else lengths[0]
    return [metric for metric, length in zip(metrics, lengths, strict=True) if length == asked]


def _long_context_lost(stages: Stages) -> _Found:
    longest = _at_length(stages, longest=True)
    gains = [gain for metric in longest if (gain := _gain(stages, metric, "base", "soup"))]
    if not gains or len(gains) < len(longest):
        return None
    least = max(gains, key=lambda gain: gain.value)
    low, high = (None if end is None else -end for end in (least.high, least.low))
    kept = [_value(stages, "soup", metric) for metric in _at_length(stages, longest=False)]
    held = all(value is not None and value >= SHORT_RECALL for value in kept)
    return Figure(-least.value, low, high), held and all(_fell(gain) for gain in gains)


def _won_back(stages: Stages) -> _Found:
    """The lowest share of the recall tasks of the longest length; without a guarded task of either sort nothing is
    held.
    """
    longest = _at_length(stages, longest=True)
    losses = [_gain(stages, metric, "base", "soup") for metric in longest]
    gains = [_gain(stages, metric, "soup", "merged") for metric in longest]
    if not longest or not all(gains) or not all(loss and loss.value < 0 for loss in losses):
        return None
    shares = [
        share_won_back(*(stages[name].results["metrics"][metric]["items"] for name in ("base", "soup", "merged")))
        for metric in longest
    ]
    known = all(loss and _fell(loss) for loss in losses) and all(gain and _gained(gain) for gain in gains)
    guarded = _thinking(stages), _metrics(stages, "preference")
    others = [_gain(stages, metric, "soup", "merged") for metrics in guarded for metric in metrics]
    held = all(guarded) and all(other is not None and not _fell(other) for other in others)
    return min(shares, key=lambda share: share.value), held and known


def share_won_back(base: list[float], soup: list[float], merged: list[float], draws: int = 2000) -> Figure:
    """The mean gain of `merged` on `soup` over the mean loss of `soup` from `base`, with the percentile interval of a
    bootstrap over the items; a resample without a loss counts as none won back.

    >>> share_won_back([1.0] * 40, [0.5] * 40, [0.75] * 40).value
    0.5
    """
    before, lost, back = (np.asarray(items, dtype=float) for items in (base, soup, merged))
    picks = np.random.default_rng(0).integers(len(before), size=(draws, len(before)))
    losses = (before - lost)[picks].mean(axis=1)
    gains = (back - lost)[picks].mean(axis=1)
    shares = np.where(losses > 0, gains / np.where(losses > 0, losses, 1.0), 0.0)
    low, high = np.percentile(shares, (2.5, 97.5))
    return Figure(float((back - lost).mean() / (before - lost).mean()), float(low), float(high))


def _turns(stages: Stages) -> _Found:
    tasks = [task for stage in stages.values() for task in stage.results["tasks"].values() if task["kind"] == "turns"]
    turns = _unique(metric for task in tasks for metric in task["metrics"] if "/turn_" in metric)
    later = [name for name in stages if name not in ("base", "extend", "mid")]
    return _lowest_level(stages, later, turns) if "sft" in stages else None


def _safety(stages: Stages) -> _Found:
    """Without look-alikes nothing says that the model does not decline all, and the claim does not hold."""
    metrics = _metrics(stages, "safety")
    found = _lowest_gain(stages, [metric for metric in metrics if metric.endswith("/declined")], "sft", "soup")
    if found is None:
        return None
    others = [_gain(stages, m, "sft", "soup") for m in metrics if m.endswith("/answered")]
    return found[0], found[1] and bool(others) and all(gain is not None and not _fell(gain) for gain in others)
