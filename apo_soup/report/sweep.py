"""The page's sweep of the merge weight: scores over it, with the weight that was chosen marked."""

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from apo_soup.errors import UserError
from apo_soup.pages.charts import Line, line_chart
from apo_soup.report.blocks import Folded, PageBlock, PageFigure, PageTable, Prose, TableCell, cells
from apo_soup.report.run_files import RunFiles
from apo_soup.runs.results import column_titles
from apo_soup.stored_json import Form, read_json

_SHARES = (0.0, 1.0)


class SweptGain(Form):
    """The difference of a point's score from the first model alone."""

    low: float | None
    high: float | None


class SweptPoint(Form):
    """A weight with its scores."""

    weight: float
    scores: dict[str, float]
    differences: dict[str, SweptGain]
    fallen: list[str]


class Chosen(Form):
    """The weight that the scores support, and those that are within noise of it."""

    weight: float
    alike: list[float] = Field(default=[])


class SweepResult(Form):
    """What is read of sweep.json."""

    models: Annotated[list[str], Field(min_length=1)]
    metric: str
    guardrails: dict[str, float]
    points: list[SweptPoint]
    better: dict[str, str | None] | None = None
    chosen: Chosen | None = None


def stored_sweep(run: Path) -> dict[str, Any] | None:
    """What a run's sweep left; None where there is none.

    Raises:
        UserError: sweep.json is of another form, or lacks scores.
    """
    file = run / "sweep" / "sweep.json"
    if not file.is_file():
        return None
    way = "remove the folder and run the sweep again"
    sweep = read_json(file, file.parent, way, SweepResult)
    names = {sweep["metric"], *sweep["guardrails"]}
    scored = all(names <= p["scores"].keys() & p["differences"].keys() for p in sweep["points"])
    if not scored or all(p["weight"] != 1 for p in sweep["points"]):
        raise UserError(f"{file}: expected every score at every point, 1 among them, got fewer; {way}")
    return sweep


def sweep_blocks(run: RunFiles) -> tuple[list[PageFigure], list[PageBlock]]:
    """The curves of the metric and of its guardrails; and, folded, all figures with what they support.

    Raises:
        UserError: sweep.json is of another form, or lacks scores.
    """
    sweep = stored_sweep(run.folder)
    if sweep is None:
        return [], []
    names = [sweep["metric"], *sweep["guardrails"]]
    titles = column_titles(names) | {name: run.titles[name] for name in names if name in run.titles}
    chosen = (sweep.get("chosen") or {}).get("weight")
    marked = None if chosen is None else (chosen, f"chosen {chosen:g}")
    unit = f"weight of {sweep['models'][0]}"
    figures = [PageFigure(
        f"The merge weight: {titles[sweep['metric']]}",
        line_chart([swept_line(sweep, sweep["metric"], titles[sweep["metric"]])], unit, None, marked),
        f"Bars: 95 % of the difference from {sweep['models'][0]} alone.",
    )]  # fmt: skip
    lines = [Line(titles[n], swept_line(sweep, n, n).points) for n in sweep["guardrails"]]
    if lines:
        shares = all(0 <= y <= 1 for line in lines for _, y in line.points)
        drawing = line_chart(lines, unit, _SHARES if shares else None, marked)
        figures.append(PageFigure("The merge weight: guardrails", drawing))
    folded = Folded("The merge weight, in numbers", [_table(sweep, titles)])
    return figures, [Prose(_told(sweep, titles[sweep["metric"]])), folded] if chosen is not None else [folded]


def _told(sweep: dict[str, Any], title: str) -> str:
    """What the scores support, in a sentence or two."""
    chosen = Chosen.model_validate(sweep["chosen"])
    told = f"{chosen.weight:g} of {sweep['models'][0]} has the best {title} of the points whose guardrails hold."
    if not chosen.alike:
        return told
    others = ", ".join(f"{weight:g}" for weight in chosen.alike)
    return f"{told} Its difference from {others} is within noise: it is one of several, not the best."


def swept_line(sweep: dict[str, Any], name: str, title: str) -> Line:
    """A score over the weight, with the interval of its difference from the first model alone around that model's."""
    points = sorted(sweep["points"], key=lambda point: point["weight"])
    alone = next(p["scores"][name] for p in points if p["weight"] == 1)
    # Differences are gains: for a loss they point down.
    sign = -1 if (sweep.get("better") or {}).get(name) == "lower" else 1
    bands = []
    for point in points:
        ends = [point["differences"][name][end] for end in ("low", "high")]
        if None not in ends:
            low, high = sorted(alone + sign * end for end in ends)
            bands.append((point["weight"], low, high))
    return Line(title, [(p["weight"], p["scores"][name]) for p in points], bands)


def _table(sweep: dict[str, Any], titles: dict[str, str]) -> PageTable:
    rows = []
    for point in sweep["points"]:
        row = cells(f"{point['weight']:g}")
        for name in titles:
            gain = point["differences"][name]
            interval = "" if gain["low"] is None else f"{gain['low']:+.3f} to {gain['high']:+.3f}"
            row.append(TableCell(f"{point['scores'][name]:.3f}", interval))
        rows.append([*row, *cells(", ".join(titles.get(name, name) for name in point["fallen"]) or "-")])
    first = sweep["models"][0]
    header = cells(f"weight of {first}", *titles.values(), "guardrails fallen")
    return PageTable(header, rows, f"Below each score the 95 % interval of its gain on {first} alone; plus is better.")
