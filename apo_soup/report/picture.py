"""The pipeline of a run as one SVG: a box a checkpoint, its scores inside, arrows from parent to child."""

from itertools import pairwise

from apo_soup.pages.drawing import svg_file
from apo_soup.pages.graph import Arrow, Box, graph_across
from apo_soup.runs.results import EvaluatedCheckpoint, headline_titles, score_cell

# Pixels: width of a box, and room between boxes.
_BOX, _GAP = 186, 40


def pipeline_picture(checkpoints: list[EvaluatedCheckpoint]) -> str:
    """Checkpoints from left to right; members stand in one box with the range of their scores."""
    titles = headline_titles(checkpoints)
    together: dict[str, list[EvaluatedCheckpoint]] = {}
    for checkpoint in checkpoints:
        together.setdefault(checkpoint.name.split("/")[0], []).append(checkpoint)
    names = {name: name if len(members) == 1 else f"{name} 1..{len(members)}" for name, members in together.items()}
    boxes = [
        Box(names[name], level, [(title, _score_range(members, metric)) for metric, title in titles.items()])
        for level, (name, members) in enumerate(together.items())
    ]
    arrows = [Arrow(before.name, after.name) for before, after in pairwise(boxes)]
    if "mid" in names and "merged" in names:
        arrows.append(Arrow("mid", "merged", "mixed in by the merge"))
    return svg_file(graph_across(boxes, arrows, "pipeline with scores", _BOX, _GAP))


def _score_range(members: list[EvaluatedCheckpoint], metric: str) -> str:
    """One score, or the range of several members."""
    values = [c.value for c in (score_cell(m, metric) for m in members) if c.value is not None]
    if not values:
        return "-"
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low}–{high}"
