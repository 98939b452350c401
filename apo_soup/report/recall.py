"""The page's long-context part: recall by context length and depth, and loss by position."""

from apo_soup.report.charts import bar_chart, heat_map, line_chart
from apo_soup.report.html import chart_grid, figure
from apo_soup.report.reported import length_order
from apo_soup.runs.results import EvaluatedCheckpoint, short_name


def metrics_by_task(stage: EvaluatedCheckpoint, kind: str) -> dict[str, list[str]]:
    """Names of all metrics of each task of a kind."""
    return {name: task["metrics"] for name, task in stage.results["tasks"].items() if task["kind"] == kind}


def task_names(stages: list[EvaluatedCheckpoint], kind: str) -> list[str]:
    """The tasks of a kind, in the suite's order."""
    return list(dict.fromkeys(name for stage in stages for name in metrics_by_task(stage, kind)))


def recall_by_length_section(stages: list[EvaluatedCheckpoint]) -> str:
    """Share of needles found, a group of bars a context length."""
    groups: dict[str, list[tuple[str, float, float, float]]] = {}
    for stage in stages:
        for name in [n for names in metrics_by_task(stage, "recall").values() for n in names]:
            metric = stage.results["metrics"][name]
            if metric["headline"] and metric["value"] is not None:
                groups.setdefault(name, []).append((stage.name, metric["value"], metric["low"], metric["high"]))
    return chart_grid([figure(bar_chart(g), f"{short_name(n)} tokens") for n, g in groups.items()])


def recall_by_depth_section(stages: list[EvaluatedCheckpoint]) -> str:
    """A map a stage and task: share of needles found by context length (across) and depth (down)."""
    figures: list[str] = []
    counts: set[int] = set()
    tasks = task_names(stages, "recall")
    for task in tasks:
        for stage in stages:
            cells: dict[tuple[str, str], float | None] = {}
            lengths: dict[str, tuple[float, str]] = {}
            depths: dict[str, float] = {}
            for name in metrics_by_task(stage, "recall").get(task, []):
                length, marked, depth = name.rsplit("/", 1)[-1].partition("@")
                if marked:
                    metric = stage.results["metrics"][name]
                    cells[length, f"{float(depth):.0%}"] = metric["value"]
                    lengths[length], depths[f"{float(depth):.0%}"] = length_order(length), float(depth)
                    counts.add(metric["n"])
            if cells:
                across, down = sorted(lengths, key=lengths.__getitem__), sorted(depths, key=depths.__getitem__)
                title = stage.name if len(tasks) == 1 else f"{stage.name}: {task}"
                figures.append(f"<figure>{heat_map(title, across, down, cells)}</figure>")
    note = (
        "<p>Across: context length in tokens. Down: where the needle stands, 0 % is the beginning. Needles a cell: "
        f"{', '.join(map(str, sorted(counts)))}; their intervals are in results.json.</p>"
    )
    return chart_grid(figures) + note if figures else ""


def position_loss_section(stages: list[EvaluatedCheckpoint]) -> str:
    """Mean loss of the tokens up to each position of a window, in nats a token: a chart a task, a line a stage."""
    figures = []
    tasks = task_names(stages, "context_loss")
    for task in tasks:
        lines: dict[str, list[tuple[float, float]]] = {}
        bands: dict[str, list[tuple[float, float, float]]] = {}
        for stage in stages:
            for name in metrics_by_task(stage, "context_loss").get(task, []):
                end, metric = int(name.rsplit("/", 1)[-1]), stage.results["metrics"][name]
                if metric["value"] is not None:
                    lines.setdefault(stage.name, []).append((end, metric["value"]))
                if metric["low"] is not None:
                    bands.setdefault(stage.name, []).append((end, metric["low"], metric["high"]))
        if lines:
            drawing = line_chart({n: sorted(v) for n, v in lines.items()}, "position", bands)
            told = "nats a token, up to each position; bars: 95 % over windows"
            figures.append(figure(drawing, told if len(tasks) == 1 else f"{task}: {told}"))
    return chart_grid(figures)
