"""The page's training curves: loss, learning rate, gradient norm, and the rewards of preference training."""

import math
from pathlib import Path
from typing import Any

from apo_soup.report.charts import line_chart
from apo_soup.report.html import chart_grid, figure
from apo_soup.report.run_files import trainer_logs
from apo_soup.runs.members import member_folders


def training_section(run: Path) -> str:
    """Loss, learning rate and gradient norm of mid and sft, each on its own axes.

    Raises:
        UserError: a log cannot be read, or is of another form.
    """
    figures = []
    for name, log in trainer_logs(run, ["mid", "sft"]).items():
        kinds = (
            ("loss", f"{name}: loss"),
            ("learning_rate", f"{name}: learning rate"),
            ("grad_norm", f"{name}: gradient norm"),
        )
        figures += _figures_by_key({name: log}, kinds)
    return chart_grid(figures)


def members_section(run: Path) -> str:
    """Curves of all members over each other.

    Raises:
        UserError: a log cannot be read, or is of another form.
    """
    logs = trainer_logs(run, [f"apo/{f.name}" for f in member_folders(run)])
    kinds = (
        ("loss", "loss"), ("learning_rate", "learning rate"), ("grad_norm", "gradient norm"),
        ("rewards/margins", "reward margin"), ("rewards/chosen", "reward of chosen"),
        ("rewards/rejected", "reward of rejected"), ("rewards/accuracies", "reward accuracy"),
        ("eval_rewards/margins", "held-out reward margin"),
    )  # fmt: skip
    return chart_grid(_figures_by_key(logs, kinds))


def _figures_by_key(logs: dict[str, list[dict[str, Any]]], kinds: tuple[tuple[str, str], ...]) -> list[str]:
    """A figure for each logged key that at least one stage logged more than once, a line a stage."""
    figures = []
    for key, title in kinds:
        lines = {n: [(r["step"], r[key]) for r in log if _is_finite(r.get(key))] for n, log in logs.items()}
        lines = {n: line for n, line in lines.items() if len(line) > 1}
        if lines:
            figures.append(figure(line_chart(lines), f"{title} by step"))
    return figures


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
