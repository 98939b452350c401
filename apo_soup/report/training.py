"""The page's training curves: losses and reward margins; learning rates, gradient norms and the rest folded."""

import math
from typing import Any

from apo_soup.config.suite_keys import LOGGED_SCORES, LOGGED_SECONDS
from apo_soup.pages.charts import Line, line_chart
from apo_soup.report.blocks import Figures, Folded, PageBlock, PageFigure, Section
from apo_soup.report.run_files import RunFiles, trainer_logs

Logs = dict[str, list[dict[str, Any]]]

_SHOWN_OF_MEMBERS = (("loss", "loss"), ("rewards/margins", "reward margin"))
_FOLDED = (("learning_rate", "learning rate"), ("grad_norm", "gradient norm"))
_FOLDED_OF_MEMBERS = (
    ("rewards/accuracies", "reward accuracy"), ("rewards/chosen", "reward of chosen"),
    ("rewards/rejected", "reward of rejected"), ("eval_rewards/margins", "held-out reward margin"), *_FOLDED,
)  # fmt: skip
_SHARES = {"rewards/accuracies": (0.0, 1.0)}


def training_section(run: RunFiles) -> Section:
    """Loss of extend, mid and sft; loss and reward margin of all members over each other; a suite's scores on the way.

    Raises:
        UserError: a log cannot be read, or is of another form.
    """
    logs = trainer_logs(run.folder, ["extend", "mid", "sft"])
    members = trainer_logs(run.folder, run.members)
    shown = [figure for name, log in logs.items() for figure in _figures(name, {name: log}, (("loss", "loss"),))]
    shown += _figures("apo", members, _SHOWN_OF_MEMBERS)
    folded = [figure for name, log in logs.items() for figure in _figures(name, {name: log}, _FOLDED)]
    folded += _figures("apo", members, _FOLDED_OF_MEMBERS)
    shown += [figure for name, log in logs.items() for figure in _suite_figures(name, {name: log})]
    shown += _suite_figures("apo", members)
    blocks: list[PageBlock] = [Figures(shown)] if shown else []
    blocks += [Folded("Learning rates, gradient norms and rewards", [Figures(folded)])] if folded else []
    return Section("Training", blocks)


def _figures(stage: str, logs: Logs, kinds: tuple[tuple[str, str], ...]) -> list[PageFigure]:
    """A figure for each logged key that at least one stage logged more than once, a line a stage."""
    figures = []
    for key, title in kinds:
        lines = [Line(n, [(r["step"], r[key]) for r in log if _is_finite(r.get(key))]) for n, log in logs.items()]
        lines = [line for line in lines if len(line.points) > 1]
        if lines:
            shares = key.startswith(LOGGED_SCORES) and all(0 <= y <= 1 for line in lines for _, y in line.points)
            within = (0.0, 1.0) if shares else _SHARES.get(key)
            figures.append(PageFigure(f"{stage}: {title}", line_chart(lines, "step", within)))
    return figures


def _suite_figures(stage: str, logs: Logs) -> list[PageFigure]:
    """A figure for each score of `eval_suite`, a line a stage; of shares from 0 to 1."""
    names = {key for log in logs.values() for entry in log for key in entry if key.startswith(LOGGED_SCORES)}
    kinds = [(key, f"{key.removeprefix(LOGGED_SCORES)} while it trains") for key in sorted(names - {LOGGED_SECONDS})]
    return _figures(stage, logs, tuple(kinds))


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
