"""Our metrics of the harness's results: values item by item, the mean of a group, the mean at a length."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from apo_soup.evals.metrics import Metric
from apo_soup.evals.repeats import mean_over_repeats, share_metrics
from apo_soup.statistics import Score, Z


def metrics_of_results(
    prefix: str, passes: list[dict[str, Any]], by_length: bool, pass_at: Sequence[int] = ()
) -> dict[str, Metric]:
    """Metrics by name from the results and samples of `simple_evaluate`, a pass for each answer to an item; a group's
    headline is the mean over its tasks' items, and with `by_length` the headlines are the means over all tasks at each
    length.
    """
    metrics: dict[str, Metric] = {}
    lengths: dict[str, list[list[float]]] = defaultdict(list)
    results = passes[0]
    groups = {name: members for name, members in results.get("group_subtasks", {}).items() if members}
    outer = [name for name in groups if not any(name in members for members in groups.values())]
    group_of_task = {task: name for name in outer for task in tasks_in_group(name, groups)}
    group_items: dict[str, list[list[float]]] = defaultdict(list)
    group_directions: dict[str, set[str | None]] = defaultdict(set)
    for name in sorted(results["samples"]):
        first = True
        for (metric, chosen), outcomes in outcomes_by_metric([p["samples"][name] for p in passes]).items():
            label = f"{prefix}/{name}/{metric}" + ("" if chosen == "none" else f"/{chosen}")
            aggregates = [p["results"].get(name, {}) for p in passes]
            better = "higher" if results.get("higher_is_better", {}).get(name, {}).get(metric, True) else "lower"
            headline = first and not by_length and name not in group_of_task
            metrics |= metrics_of_outcomes(label, outcomes, aggregates, f"{metric},{chosen}", better, headline, pass_at)
            if first and name in group_of_task:
                group_items[group_of_task[name]] += outcomes
                group_directions[group_of_task[name]].add(better)
            first = False
            if by_length and metric.isdigit():
                lengths[metric] += outcomes
    for name, items in group_items.items():
        direction = group_directions[name].pop() if len(group_directions[name]) == 1 else None
        metrics[f"{prefix}/{name}{average_mark(items)}"] = mean_over_repeats(items, direction, headline=not by_length)
    for length, items in sorted(lengths.items(), key=lambda entry: int(entry[0])):
        metrics[f"{prefix}/{length}"] = mean_over_repeats(items, headline=True)
    return metrics


def tasks_in_group(name: str, groups: dict[str, list[str]]) -> list[str]:
    """The tasks in a group, those of groups within it too.

    >>> tasks_in_group("a", {"a": ["b", "x"], "b": ["y"]})
    ['y', 'x']
    """
    return [task for member in groups.get(name, []) for task in (tasks_in_group(member, groups) or [member])]


def outcomes_by_metric(passes: list[list[dict[str, Any]]]) -> dict[tuple[str, str], list[list[float]]]:
    """Values `[N][n]` of every (metric, filter): each item's in the n passes."""
    values = [values_by_metric(samples) for samples in passes]
    return {name: [list(own) for own in zip(*(v[name] for v in values), strict=True)] for name in values[0]}


def values_by_metric(samples: list[dict[str, Any]]) -> dict[tuple[str, str], list[float]]:
    """Values of every (metric, filter), item by item; the harness writes -1 for a length that is not an item's own.

    The filter that reads an answer most freely comes first, since chat models seldom keep a harness's strict form.
    """
    values: dict[tuple[str, str], list[float]] = defaultdict(list)
    for sample in sorted(samples, key=lambda s: (s["filter"] != "flexible-extract", s["filter"])):
        for metric in sample["metrics"]:
            value = sample[metric]
            if isinstance(value, (bool, int, float)) and not (metric.isdigit() and value == -1):
                values[metric, sample["filter"]].append(float(value))
    return values


def average_mark(outcomes: list[list[float]]) -> str:
    """What the name of a mean over several answers to an item ends with."""
    return f"/avg@{len(outcomes[0])}" if outcomes and len(outcomes[0]) > 1 else ""


def metrics_of_outcomes(
    label: str,
    outcomes: list[list[float]],
    aggregates: list[dict[str, Any]],
    key: str,
    better: str,
    headline: bool,
    pass_at: Sequence[int],
) -> dict[str, Metric]:
    """The metrics of one of the harness's; items are kept when its own aggregate is their mean, in every pass.

    Args:
        outcomes: `[N][n]`, each item's value in the n passes.
        aggregates: the harness's own figures, a pass each, under `key`.
    """
    own = [sum(values) / len(values) for values in zip(*outcomes, strict=True)]
    told = [a.get(key) for a in aggregates]
    totals = [t if isinstance(t, (int, float)) and t != -1 else mean for t, mean in zip(told, own, strict=True)]
    is_mean = all(abs(total - mean) < 1e-6 for total, mean in zip(totals, own, strict=True))
    if not is_mean:
        average = sum(totals) / len(totals)
        stderr = aggregates[0].get(key.replace(",", "_stderr,", 1)) if len(aggregates) == 1 else None
        half = Z * stderr if isinstance(stderr, (int, float)) else None
        low, high = (average - half, average + half) if half is not None else (None, None)
        score = Score(average, low, high, len(outcomes))
        return {f"{label}{average_mark(outcomes)}": Metric(score, better=better, headline=headline)}
    if len(aggregates) > 1 and all(set(values) <= {0.0, 1.0} for values in outcomes):
        return share_metrics(label, outcomes, len(aggregates), pass_at, better, headline)
    return {f"{label}{average_mark(outcomes)}": mean_over_repeats(outcomes, better, headline)}
