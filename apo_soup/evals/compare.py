"""Two evaluations side by side, item by item: `apo-soup compare A B [--fail-below -0.02]`.

A and B are folders of `apo-soup eval` (or their results.json). The gain is B - A over the same items, with a 95 %
interval (`apo_soup/statistics.py`); for a metric that is better when lower its sign is turned: plus is always better.
With `--fail-below X` the exit code is 1 when some metric fell below X beyond noise, or could not be compared.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError
from apo_soup.runs.results import evaluation_results
from apo_soup.statistics import Difference, paired_gain
from apo_soup.tables import text_table

Results = dict[str, Any]


@dataclass(frozen=True)
class MetricComparison:
    """One metric of both: values, and how much better B is."""

    metric: str
    before: float
    after: float
    gain: Difference


def read_results(path: Path) -> Results:
    """A results.json, or the one in a folder.

    Raises:
        UserError: there is none.
    """
    file = path / "results.json" if path.is_dir() else path
    if not file.is_file():
        raise UserError(
            f"{path}: expected results.json, got nothing; give a folder that `apo-soup eval` wrote, such as "
            "runs/tiny/evals/sft"
        )
    return evaluation_results(file)


def metric_comparisons(
    one: Results, two: Results, only: list[str] | None = None
) -> tuple[list[MetricComparison], list[str]]:
    """Lines of the metrics that both have with single items, and a sentence for each that cannot be compared.

    Args:
        only: metrics to compare; without it, the headline ones.

    Raises:
        UserError: a metric asked for is not in both, or has no single items.
    """
    lines: list[MetricComparison] = []
    notes: list[str] = []
    comparable: set[str] = set()
    for name, task in one["tasks"].items():
        other = two["tasks"].get(name)
        if other is None:
            notes.append(f"task {name} was not run on the second")
        elif other["rows"] != task["rows"]:
            notes.append(f"task {name} asked other items of the second, so it cannot be compared item by item")
        else:
            comparable |= set(task["metrics"])
    if only:
        notes = []  # what became of other tasks was not asked
    for name in only or [n for n, m in one["metrics"].items() if m["headline"]]:
        first, second = one["metrics"].get(name), two["metrics"].get(name)
        if only and (name not in comparable or not first or not second or "items" not in first):
            known = ", ".join(n for n in one["metrics"] if n in comparable and "items" in one["metrics"][n])
            raise UserError(f"--metric: expected one that both have item by item, of {known}, got {name}; correct it")
        if name not in comparable:
            continue
        gain = paired_gain(first, second) if first and second else None
        if gain and gain.low is not None:
            lines.append(MetricComparison(name, first["value"], second["value"], gain))
        else:
            notes.append(f"{name} has no single items in both, so it cannot be compared item by item")
    return lines, notes


def comparison_table(lines: list[MetricComparison]) -> str:
    """A line a metric, for people."""
    rows = []
    for line in lines:
        gain = line.gain
        word = ("better" if gain.value > 0 else "worse") if gain.beyond_noise else "-"
        scores = [f"{line.before:.3f}", f"{line.after:.3f}", f"{gain.value:+.3f}"]
        rows.append([line.metric, *scores, gain.interval(3), str(gain.n), word])
    return text_table(["metric", "first", "second", "gain", "95 % interval", "items", "beyond noise"], rows)


def compare_results(first: Path, second: Path, only: list[str], fail_below: float | None) -> int:
    """Print what the second gained on the first; returns 1 where `fail_below` is given and not held, else 0.

    Raises:
        UserError: `fail_below` is above 0 or no number, results are not there, or have no metric on the same items.
    """
    if fail_below is not None and not -math.inf < fail_below <= 0:
        raise UserError(f"--fail-below: expected a number of 0 or less, such as -0.02, got {fail_below}; correct it")
    one, two = read_results(first), read_results(second)
    lines, notes = metric_comparisons(one, two, only)
    if one.get("suite_hash") != two.get("suite_hash"):
        print("note: the two were evaluated with different settings, template or code")
    for note in notes:
        print(f"note: {note}")
    if not lines:
        raise UserError(
            f"{second}: expected a metric on the same items as {first}, got none; evaluate both with the same suite"
        )
    print(comparison_table(lines))
    if fail_below is None:
        return 0
    fallen = [line.metric for line in lines if line.gain.value < fail_below and line.gain.beyond_noise]
    if fallen:
        print(f"failed: {', '.join(fallen)} fell below {fail_below:+g}")
        return 1
    if notes:
        print("failed: not everything could be compared, so nothing says that it did not fall")
        return 1
    print(f"passed: nothing fell below {fail_below:+g} beyond noise")
    return 0
