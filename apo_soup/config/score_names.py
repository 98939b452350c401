"""The names of the scores that a task will have, as far as they are known before its rows are read.

A score of a group of rows has the group's name, which any row may give, and one of the harness's is called as its tasks
have it: of these only the beginning is known.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, assert_never

from apo_soup.config.eval import (
    AnswerTask,
    ConsistencyTask,
    ContextLossTask,
    HarnessTask,
    LossTask,
    PreferenceTask,
    RecallTask,
    SafetyTask,
    ScoredTask,
    ToolTask,
    TurnsTask,
)
from apo_soup.config.eval_keys import MODES, OTHER_MODE, RepeatedKeys, SampledKeys, TaskKeys
from apo_soup.config.eval_programs import LiveCodeBenchTask
from apo_soup.config.nearest import near_word

# Parts of a score's name that no group may have.
OWN_PARTS = re.compile(r"tokens|avg@\d+|pass@\d+")


@dataclass(frozen=True)
class ScoreNames:
    """Those of a task.

    Attributes:
        certain: names, each with whether the score is better when higher or lower, and so may be chosen by.
        groups: beginnings, up to a `/`, behind which groups of rows are named.
        open: whether the task may have other scores too, of any name that begins with its own.
    """

    certain: dict[str, bool] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    open: bool = False

    def fault(self, name: str) -> str | None:
        """A sentence's end, from what was expected on, where a task has no score of this name to choose by; None where
        it has, or may have.
        """
        if self.certain.get(name) or self.open:
            return None
        if name in self.certain:
            return f"expected a score that is better when higher or lower ({self._told()}), got {name}; name another"
        of_group = (name.removeprefix(before) for before in self.groups if name.startswith(before))
        if any(rest and not OWN_PARTS.fullmatch(rest) for rest in of_group):
            return None
        near = near_word(name, self.certain)
        way = f"the nearest is {near}" if near and self.certain[near] else "correct the name"
        return f"expected one of its scores ({self._told()}), got {name}; {way}"

    def _told(self) -> str:
        names = [name for name, chosen in self.certain.items() if chosen]
        return ", ".join([*names, *(f"{before}GROUP" for before in self.groups)])


def score_names(task: Any) -> ScoreNames:
    """The scores of a task of a suite."""
    if isinstance(task, HarnessTask):
        return ScoreNames(open=True)
    return _of_answers(task) if isinstance(task, SampledKeys) else _of_texts(task)


def _of_answers(task: Any) -> ScoreNames:
    """Those of a task that the model answers."""
    match task:
        case AnswerTask():
            certain = _by_mode(task, shares=("",), lengths=True) | {f"{task.name}/obedience": True}
            if "think" in task.modes:
                certain[f"{task.name}/closed"] = True
            return ScoreNames(certain, _mode_parts(task))
        case ToolTask():
            return ScoreNames(_by_mode(task, shares=("/valid", "/right")))
        case TurnsTask():
            return ScoreNames(dict.fromkeys(_of_turns(task), True))
        case ConsistencyTask():
            begin = (task.name, *(f"{task.name}/{mode}" for mode in task.modes))
            return ScoreNames({f"{name}/{what}": True for name in begin for what in ("agree", "agree_right")})
        case SafetyTask():
            shares = [f"{task.name}/{mode}/{what}" for mode in task.modes for what in ("declined", "answered")]
            lengths = {f"{task.name}/{mode}/tokens": False for mode in task.modes}
            return ScoreNames(dict.fromkeys(shares, True) | lengths, tuple(f"{name}/" for name in shares))
        case LiveCodeBenchTask():
            graded = bool(task.program and task.unsafe_code)
            certain = _by_mode(task, shares=("",) if graded else (), lengths=True)
            certain |= {f"{task.name}/{mode}/code": True for mode in task.modes}
            return ScoreNames(certain, _mode_parts(task) if graded else ())
        case _:
            return ScoreNames(_by_mode(task, shares=("",)), _mode_parts(task))  # BFCL's


def _of_texts(task: ScoredTask) -> ScoreNames:
    """Those of a task that reads probabilities of given texts."""
    match task:
        case RecallTask():
            return ScoreNames({}, (f"{task.name}/",))
        case PreferenceTask():
            return ScoreNames({task.name: True, f"{task.name}/margin": True})
        case LossTask():
            return ScoreNames({task.name: True} | {f"{task.name}/{mode}": True for mode in MODES})
        case ContextLossTask():
            return ScoreNames({f"{task.name}/{end}": True for end in task.bucket_ends()})
        case _:
            assert_never(task)


def score_fault(name: str, tasks: list[Any]) -> str | None:
    """A sentence's end, from what was expected on, where none of these tasks has a score of this name to choose by."""
    task: TaskKeys | None = next((task for task in tasks if f"{name}/".startswith(f"{task.name}/")), None)
    if task is None:
        known = ", ".join(one.name for one in tasks)
        return f"expected a score of one of the tasks ({known}), got {name}; correct the name"
    return score_names(task).fault(name)


def _mode_parts(task: Any) -> tuple[str, ...]:
    return tuple(f"{task.name}/{mode}/" for mode in task.modes)


def _by_mode(task: Any, shares: tuple[str, ...], lengths: bool = False) -> dict[str, bool]:
    """Shares of each mode, with what stands behind the mode, and the mean length of its answers."""
    certain: dict[str, bool] = {}
    for mode in task.modes:
        for what in shares:
            certain |= dict.fromkeys(_of_repeats(f"{task.name}/{mode}{what}", task), True)
        if lengths:
            certain[f"{task.name}/{mode}/tokens"] = False
    return certain


def _of_repeats(name: str, task: RepeatedKeys) -> list[str]:
    if task.repeats == 1:
        return [name]
    return [f"{name}/avg@{task.repeats}", *(f"{name}/pass@{k}" for k in sorted(set(task.pass_at or [task.repeats])))]


def _of_turns(task: TurnsTask) -> Iterator[str]:
    for mode in task.modes:
        talks: dict[str, int] = {mode: 1}
        if 0 < task.switch <= task.turns:
            talks[f"{mode}_to_{OTHER_MODE[mode]}"] = task.switch
        for label, first in talks.items():
            yield f"{task.name}/{label}/kept"
            yield from (f"{task.name}/{label}/turn_{turn}" for turn in range(first, task.turns + 1))
