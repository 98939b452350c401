"""What a sweep says: a table, a sentence with the lines for the merge file, and a curve."""

from pathlib import Path

from apo_soup.pages.charts import Line, line_chart
from apo_soup.pages.drawing import svg_file
from apo_soup.runs.results import column_titles
from apo_soup.tables import text_table
from merge.sweep.choose import ChosenWeight, SweepPoint


def sweep_table(points: list[SweepPoint], metric: str, guardrails: list[str], names: list[str]) -> str:
    """A line a point: scores, and the difference from weight 1 with its interval; `names` are those of both models."""
    lines = []
    for point in points:
        cells = [f"{point.weight:g}"]
        for name in (metric, *guardrails):
            difference = point.differences[name]
            mark = "*" if difference.beyond_noise else ""
            cells.append(f"{point.scores[name]:.3f} ({difference.interval(2)}){mark}")
        lines.append([*cells, ", ".join(point.fallen) or "-"])
    table = text_table([names[0], metric, *guardrails, "guardrails fallen"], lines)
    return (
        f"{table}\nin brackets the 95 % interval of the gain on {names[0]} alone, plus being better; * marks what is "
        "beyond noise"
    )


def sweep_advice(chosen: ChosenWeight, metric: str, names: list[str], path: Path) -> str:
    """What the scores support, and the two lines of the merge file `path` that say so."""
    lines = [f"sweep: {names[0]} {chosen.weight:g} has the best {metric} of the points whose guardrails hold"]
    if chosen.alike:
        others = ", ".join(f"{w:g}" for w in chosen.alike)
        lines.append(
            f"sweep: on these items its difference from {others} is within noise; take it as one of several, not as "
            "the best"
        )
    lines.append(f"in {path}, under merge.models:")
    for name, weight in zip(names, (chosen.weight, round(1 - chosen.weight, 12)), strict=True):
        lines.append(f"    - {{model: {name}, parameters: {{weight: {weight:g}}}}}")
    return "\n".join(lines)


def sweep_curve(points: list[SweepPoint], metrics: list[str], names: list[str]) -> str:
    """The scores over the weight as SVG."""
    titles = column_titles(metrics)
    lines = [Line(titles[metric], [(p.weight, p.scores[metric]) for p in points]) for metric in metrics]
    shares = all(0 <= p.scores[name] <= 1 for p in points for name in metrics)
    unit = f"weight of {names[0]} (the rest is {names[1]})"
    return svg_file(line_chart(lines, unit, (0.0, 1.0) if shares else None))
