"""The page's long-context part: recall by context length and depth, and loss by position."""

from apo_soup.report.charts import bar_chart, heat_map, line_chart
from apo_soup.report.html import chart_grid, figure
from apo_soup.report.reported import length_order
from apo_soup.runs.results import EvaluatedCheckpoint, short_name


def metrics_of_kind(stage: EvaluatedCheckpoint, kind: str) -> list[str]:
    """Names of all metrics of a kind of task."""
    return [m for t in stage.results["tasks"].values() if t["kind"] == kind for m in t["metrics"]]


def recall_by_length_section(stages: list[EvaluatedCheckpoint]) -> str:
    """Share of needles found, a group of bars a context length."""
    groups: dict[str, list[tuple[str, float, float, float]]] = {}
    for stage in stages:
        for name in metrics_of_kind(stage, "recall"):
            metric = stage.results["metrics"][name]
            if metric["headline"] and metric["value"] is not None:
                groups.setdefault(name, []).append((stage.name, metric["value"], metric["low"], metric["high"]))
    return chart_grid([figure(bar_chart(g), f"{short_name(n)} tokens") for n, g in groups.items()])


def recall_by_depth_section(stages: list[EvaluatedCheckpoint]) -> str:
    """A map a stage: share of needles found by context length (across) and depth (down)."""
    figures = []
    for stage in stages:
        cells: dict[tuple[str, str], float | None] = {}
        lengths: dict[str, tuple[float, str]] = {}
        depths: dict[str, float] = {}
        for name in metrics_of_kind(stage, "recall"):
            length, marked, depth = name.rsplit("/", 1)[-1].partition("@")
            if marked:
                cells[length, f"{float(depth):.0%}"] = stage.results["metrics"][name]["value"]
                lengths[length], depths[f"{float(depth):.0%}"] = length_order(length), float(depth)
        if cells:
            across, down = sorted(lengths, key=lengths.__getitem__), sorted(depths, key=depths.__getitem__)
            figures.append(f"<figure>{heat_map(stage.name, across, down, cells)}</figure>")
    counts = {
        stage.results["metrics"][n]["n"] for stage in stages for n in metrics_of_kind(stage, "recall") if "@" in n
    }
    note = (
        "<p>Across: context length in tokens. Down: where the needle stands, 0 % is the beginning. Needles a cell: "
        f"{', '.join(map(str, sorted(counts)))}; their intervals are in results.json.</p>"
    )
    return chart_grid(figures) + note if figures else ""


def position_loss_section(stages: list[EvaluatedCheckpoint]) -> str:
    """Mean loss of the tokens up to each position of a window, in nats a token, a line a stage."""
    lines: dict[str, list[tuple[float, float]]] = {}
    bands: dict[str, list[tuple[float, float, float]]] = {}
    for stage in stages:
        for name in metrics_of_kind(stage, "context_loss"):
            end, metric = int(name.rsplit("/", 1)[-1]), stage.results["metrics"][name]
            if metric["value"] is not None:
                lines.setdefault(stage.name, []).append((end, metric["value"]))
            if metric["low"] is not None:
                bands.setdefault(stage.name, []).append((end, metric["low"], metric["high"]))
    if not lines:
        return ""
    drawing = line_chart({n: sorted(v) for n, v in lines.items()}, "position", bands)
    return chart_grid([figure(drawing, "nats a token, up to each position; bars: 95 % over windows")])
