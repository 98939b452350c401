"""What a walk over the merge weight says: a sentence with the lines for the merge file, and a curve."""

from collections.abc import Mapping
from pathlib import Path

from apo_soup.pages.charts import Line, line_chart
from apo_soup.pages.drawing import svg_file
from apo_soup.sweep.choose import ChosenPoint, WalkedPoint


def sweep_advice(chosen: ChosenPoint[float], metric: str, names: list[str], path: Path) -> str:
    """What the scores support, and the two lines of the merge file `path` that say so."""
    lines = [f"sweep: {names[0]} {chosen.label:g} has the best {metric} of the points whose guardrails hold"]
    if chosen.alike:
        others = ", ".join(f"{w:g}" for w in chosen.alike)
        lines.append(
            f"sweep: on these items its difference from {others} is within noise; take it as one of several, not as "
            "the best"
        )
    lines.append(f"in {path}, under merge.models:")
    for name, weight in zip(names, (chosen.label, round(1 - chosen.label, 12)), strict=True):
        lines.append(f"    - {{model: {name}, parameters: {{weight: {weight:g}}}}}")
    return "\n".join(lines)


def sweep_curve(points: list[WalkedPoint[float]], titles: Mapping[str, str], names: list[str]) -> str:
    """The scores over the weight as SVG.

    Args:
        titles: of the metrics that are drawn, by name.
    """
    lines = [Line(title, [(p.label, p.scores[metric]) for p in points]) for metric, title in titles.items()]
    shares = all(0 <= p.scores[metric] <= 1 for p in points for metric in titles)
    unit = f"weight of {names[0]} (the rest is {names[1]})"
    return svg_file(line_chart(lines, unit, (0.0, 1.0) if shares else None))
