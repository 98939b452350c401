"""The verdicts of a run for programs: one figure with its interval for each thing that the makers of SmolLM3 say.

A claim is seen where its figure reaches the least that is asked of it and its interval leaves out 0. Where a stage or a
task is not there, the claim has no figure and is not seen.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from apo_soup.report.reported import gain_between, headline_metrics_of_kind, length_order, thinking_metrics
from apo_soup.runs.results import EvaluatedCheckpoint
from apo_soup.statistics import Difference

# The least that is asked of a figure.
LEAST_MID, LEAST_MODES, LEAST_PREFERENCE, LEAST_LOST, LEAST_WON_BACK, LEAST_KEPT = 0.4, 0.9, 0.2, 0.1, 0.25, 0.9
# What base may prefer at most, and what the soup must find at the shortest length.
BASE_PREFERS, SHORT_RECALL = 0.7, 0.95
# What leaves preference optimisation nothing to teach.
FULL = 0.95


@dataclass(frozen=True)
class Claim:
    """A statement's figure with its 95 % interval, the least that is asked of it, and whether it is seen."""

    name: str
    told: str
    least: float
    value: float | None = None
    low: float | None = None
    high: float | None = None
    seen: bool = False

    def as_json(self) -> dict[str, Any]:
        """As it stands in `claims`."""
        return {k: round(v, 4) if isinstance(v, float) else v for k, v in vars(self).items()}


@dataclass(frozen=True)
class Figure:
    """A value with its interval."""

    value: float
    low: float | None
    high: float | None


def run_claims(checkpoints: list[EvaluatedCheckpoint]) -> list[Claim]:
    """Every claim, in the order of the stages; each has a line, whether the run can answer it or not."""
    stages = {checkpoint.name: checkpoint for checkpoint in checkpoints}
    return [
        _claim("mid_reasons", "think accuracy that mid gains on base", LEAST_MID, _mid_reasons(stages)),
        _claim("two_modes", "the lower of sft's think accuracy and mode kept", LEAST_MODES, _two_modes(stages)),
        _claim(
            "preference",
            f"the lowest gain of soup on sft, of tasks where base is at {BASE_PREFERS} at most and sft below {FULL}",
            LEAST_PREFERENCE,
            _preference(stages),
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
        *(
            _claim(kind, f"a task of kind {kind}", 0.0, _gain_of_kind(stages, kind, "sft", "soup"))
            for kind in ("safety", "consistency")
        ),
    ]


def _claim(name: str, told: str, least: float, found: tuple[Figure, bool] | None) -> Claim:
    if found is None:
        return Claim(name, told, least)
    figure, holds = found
    beyond = figure.low is not None and figure.low > 0
    return Claim(name, told, least, figure.value, figure.low, figure.high, holds and beyond and figure.value >= least)


Stages = dict[str, EvaluatedCheckpoint]


def _metrics(stages: Stages, kind: str) -> list[str]:
    first = next(iter(stages.values()), None)
    return headline_metrics_of_kind(first, kind) if first else []


def _gain(stages: Stages, metric: str, before: str, after: str) -> Difference | None:
    return gain_between(stages[before], stages[after], metric) if before in stages and after in stages else None


def _value(stages: Stages, stage: str, metric: str) -> float | None:
    return stages[stage].results["metrics"].get(metric, {}).get("value") if stage in stages else None


def _lengths(stages: Stages) -> list[str]:
    return sorted(_metrics(stages, "recall"), key=length_order)


def _thinking(stages: Stages) -> list[str]:
    first = next(iter(stages.values()), None)
    return thinking_metrics(first)[:1] if first else []


def _mid_reasons(stages: Stages) -> tuple[Figure, bool] | None:
    gains = [_gain(stages, metric, "base", "mid") for metric in _thinking(stages)]
    return (_figure(gains[0]), True) if gains and gains[0] else None


def _figure(gain: Difference) -> Figure:
    return Figure(gain.value, gain.low, gain.high)


def _two_modes(stages: Stages) -> tuple[Figure, bool] | None:
    names = [*_thinking(stages), *(m for m in _metrics(stages, "answer") if m.endswith("/obedience"))]
    return _lowest(stages, ["sft"], names)


def _lowest(stages: Stages, of: list[str], metrics: list[str]) -> tuple[Figure, bool] | None:
    """The lowest of several scores of several stages, with its interval."""
    found = [stages[stage].results["metrics"].get(metric) for stage in of if stage in stages for metric in metrics]
    told = [score for score in found if score and score["value"] is not None]
    if not told or len(told) < len(metrics):
        return None
    least = min(told, key=lambda score: score["value"])
    return Figure(least["value"], least["low"], least["high"]), True


def _preference(stages: Stages) -> tuple[Figure, bool] | None:
    found = [
        gain
        for metric in _metrics(stages, "preference")
        if (prefers := _value(stages, "base", metric)) is not None and prefers <= BASE_PREFERS
        if (gain := _gain(stages, metric, "sft", "soup")) and _has_room(stages, metric)
    ]
    return (_figure(min(found, key=lambda gain: gain.value)), True) if found else None


def _has_room(stages: Stages, metric: str) -> bool:
    """Whether sft left anything to gain: right traces over wrong ones it may already tell apart in every pair."""
    return (_value(stages, "sft", metric) or 0.0) < FULL


def _long_context_lost(stages: Stages) -> tuple[Figure, bool] | None:
    lengths = _lengths(stages)
    gain = _gain(stages, lengths[-1], "base", "soup") if lengths else None
    if not gain:
        return None
    short = _value(stages, "soup", lengths[0])
    figure = Figure(-gain.value, None if gain.high is None else -gain.high, None if gain.low is None else -gain.low)
    return figure, len(lengths) > 1 and short is not None and short >= SHORT_RECALL


def _won_back(stages: Stages) -> tuple[Figure, bool] | None:
    lengths = _lengths(stages)
    gain = _gain(stages, lengths[-1], "soup", "merged") if lengths else None
    loss = _gain(stages, lengths[-1], "base", "soup") if lengths else None
    if not gain or not loss or loss.value >= 0:
        return None
    items = [stages[name].results["metrics"][lengths[-1]]["items"] for name in ("base", "soup", "merged")]
    guarded = [*_thinking(stages), *_metrics(stages, "preference")]
    others = [_gain(stages, metric, "soup", "merged") for metric in guarded]
    held = all(other is not None and not (other.beyond_noise and other.value < 0) for other in others)
    return share_won_back(*items), held and gain.beyond_noise and gain.value > 0


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


def _turns(stages: Stages) -> tuple[Figure, bool] | None:
    first = next(iter(stages.values()), None)
    tasks = [task for task in first.results["tasks"].values() if task["kind"] == "turns"] if first else []
    turns = [metric for task in tasks for metric in task["metrics"] if "/turn_" in metric]
    later = [name for name in stages if name not in ("base", "mid")]
    return _lowest(stages, later, turns) if turns and "sft" in stages else None


def _gain_of_kind(stages: Stages, kind: str, before: str, after: str) -> tuple[Figure, bool] | None:
    gains = [_gain(stages, metric, before, after) for metric in _metrics(stages, kind)]
    return (_figure(gains[0]), True) if gains and gains[0] else None
