"""What a sweep says: a table, a sentence with the lines for the merge file, and a curve."""

from pathlib import Path

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


def draw_curve(points: list[SweepPoint], metrics: list[str], names: list[str], path: Path) -> None:
    """Write the scores over the weight as a picture (PNG)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for name in metrics:
        axes.plot([p.weight for p in points], [p.scores[name] for p in points], marker="o", markersize=3, label=name)
    axes.set_xlabel(f"weight of {names[0]} (the rest is {names[1]})")
    axes.set_ylabel("score")
    if all(0 <= p.scores[name] <= 1 for p in points for name in metrics):
        axes.set_ylim(-0.02, 1.02)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
