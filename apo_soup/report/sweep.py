"""The page's sweep of the merge weight."""

from pathlib import Path
from typing import Annotated

from pydantic import Field

from apo_soup.errors import UserError
from apo_soup.report.charts import line_chart
from apo_soup.report.html import chart_grid, esc, figure, html_table
from apo_soup.stored_json import Form, read_json


class Gain(Form):
    """The difference of a point's score from the first model alone."""

    low: float | None
    high: float | None


class Point(Form):
    """A weight with its scores."""

    weight: float
    scores: dict[str, float]
    differences: dict[str, Gain]
    fallen: list[str]


class SweepResult(Form):
    """What is read of sweep.json."""

    models: Annotated[list[str], Field(min_length=1)]
    metric: str
    guardrails: dict[str, float]
    points: list[Point]
    told: str
    better: dict[str, str | None] | None = None


def sweep_section(run: Path) -> str:
    """Scores over the weight of the merge's first model, and what they support.

    Raises:
        UserError: sweep.json is of another form, or lacks scores.
    """
    file = run / "sweep" / "sweep.json"
    if not file.is_file():
        return ""
    way = "remove the folder and run the sweep again"
    sweep = read_json(file, file.parent, way, SweepResult)
    first, names = sweep["models"][0], [sweep["metric"], *sweep["guardrails"]]
    scored = all({*names} <= p["scores"].keys() & p["differences"].keys() for p in sweep["points"])
    if not scored or all(p["weight"] != 1 for p in sweep["points"]):
        raise UserError(f"{file}: expected every score at every point, 1 among them, got fewer; {way}")
    figures = []
    for name in names:
        alone = next(p["scores"][name] for p in sweep["points"] if p["weight"] == 1)
        line = {name: [(p["weight"], p["scores"][name]) for p in sweep["points"]]}
        # Differences are gains: for a loss they point down.
        sign = -1 if (sweep.get("better") or {}).get(name) == "lower" else 1
        bounds = {p["weight"]: sorted(sign * p["differences"][name][end] for end in ("low", "high"))
                  for p in sweep["points"] if p["differences"][name]["low"] is not None}  # fmt: skip
        band = {name: [(weight, alone + low, alone + high) for weight, (low, high) in bounds.items()]}
        figures.append(figure(line_chart(line, f"weight of {first}", band), f"{name}; bars: 95 % of the difference"))
    rows = []
    for p in sweep["points"]:
        cells = [f"{p['weight']:g}"]
        for name in names:
            d = p["differences"][name]
            interval = "" if d["low"] is None else f"{d['low']:+.3f} to {d['high']:+.3f}"
            cells.append(f"{p['scores'][name]:.3f}<small>{interval}</small>")
        rows.append([*cells, esc(", ".join(p["fallen"]) or "-")])
    note = f"<p>Below each score is the 95 % interval of its gain on {esc(first)} alone; plus is better.</p>"
    header = [f"weight of {first}", *names, "guardrails fallen"]
    return f"{chart_grid(figures)}{html_table(header, rows)}{note}<pre>{esc(sweep['told'])}</pre>"
