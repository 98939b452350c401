"""Our metrics of the harness's results: values item by item, the mean of a group, the mean at a length."""

from collections import defaultdict
from typing import Any

from apo_soup.evals.metrics import Metric, mean_metric
from apo_soup.statistics import Score, Z


def metrics_of_results(prefix: str, results: dict[str, Any], by_length: bool) -> dict[str, Metric]:
    """Metrics by name from `simple_evaluate`'s results and samples; a group's headline is the mean over its tasks'
    items, and with `by_length` the headlines are the means over all tasks at each length.
    """
    metrics: dict[str, Metric] = {}
    lengths: dict[str, list[float]] = defaultdict(list)
    groups = {name: members for name, members in results.get("group_subtasks", {}).items() if members}
    outer = [name for name in groups if not any(name in members for members in groups.values())]
    group_of_task = {task: name for name in outer for task in tasks_in_group(name, groups)}
    group_items: dict[str, list[float]] = defaultdict(list)
    group_directions: dict[str, set[str | None]] = defaultdict(set)
    for name, samples in sorted(results["samples"].items()):
        first = True
        for (metric, chosen), items in values_by_metric(samples).items():
            label = f"{prefix}/{name}/{metric}" + ("" if chosen == "none" else f"/{chosen}")
            aggregates = results["results"].get(name, {})
            higher = results.get("higher_is_better", {}).get(name, {}).get(metric, True)
            metrics[label] = metric_of_values(
                items,
                aggregates.get(f"{metric},{chosen}"),
                aggregates.get(f"{metric}_stderr,{chosen}"),
                better="higher" if higher else "lower",
                headline=first and not by_length and name not in group_of_task,
            )
            if first and name in group_of_task:
                group_items[group_of_task[name]] += items
                group_directions[group_of_task[name]].add(metrics[label].better)
            first = False
            if by_length and metric.isdigit():
                lengths[metric] += items
    for name, items in group_items.items():
        better = group_directions[name].pop() if len(group_directions[name]) == 1 else None
        metrics[f"{prefix}/{name}"] = mean_metric(items, better, headline=not by_length)
    for length, items in sorted(lengths.items(), key=lambda entry: int(entry[0])):
        metrics[f"{prefix}/{length}"] = mean_metric(items, headline=True)
    return metrics


def tasks_in_group(name: str, groups: dict[str, list[str]]) -> list[str]:
    """The tasks in a group, those of groups within it too.

    >>> tasks_in_group("a", {"a": ["b", "x"], "b": ["y"]})
    ['y', 'x']
    """
    return [task for member in groups.get(name, []) for task in (tasks_in_group(member, groups) or [member])]


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


def metric_of_values(
    items: list[float], aggregate: Any, stderr: Any, better: str = "higher", headline: bool = False
) -> Metric:
    """A metric whose items are kept when the harness's own aggregate is their mean."""
    if not isinstance(aggregate, (int, float)) or aggregate == -1 or abs(aggregate - sum(items) / len(items)) < 1e-6:
        return mean_metric(items, better, headline)
    half = Z * stderr if isinstance(stderr, (int, float)) else None
    low, high = (aggregate - half, aggregate + half) if half is not None else (None, None)
    return Metric(Score(aggregate, low, high, len(items)), better=better, headline=headline)
