"""Graphs: boxes that do not lie on each other, arrows that end at boxes."""

import itertools

from apo_soup.pages.drawing import Block, Stroke, Words
from apo_soup.pages.graph import Arrow, Box, graph_across, graph_down

BOXES = [
    Box("base", 0), Box("mid", 1), Box("sft", 2), *(Box(f"apo/{n}", 3, [("0123456789", "")]) for n in (1, 2, 3)),
    Box("soup", 4), Box("merged", 5, style="last"),
]  # fmt: skip
ARROWS = [
    Arrow("base", "mid"), Arrow("mid", "sft"), *(Arrow("sft", f"apo/{n}") for n in (1, 2, 3)),
    *(Arrow(f"apo/{n}", "soup") for n in (1, 2, 3)), Arrow("soup", "merged", "0.85"), Arrow("mid", "merged", "0.15"),
]  # fmt: skip


def apart(one: Block, two: Block) -> bool:
    return (
        one.x + one.width <= two.x or two.x + two.width <= one.x
        or one.y + one.height <= two.y or two.y + two.height <= one.y
    )  # fmt: skip


def test_boxes_stand_apart_and_inside_in_both_directions():
    for drawing in (graph_across(BOXES, ARROWS, "x", 140, 64), graph_down(BOXES, ARROWS, "x", 350, 150, 30)):
        boxes = [mark for mark in drawing.marks if isinstance(mark, Block)]
        assert len(boxes) == 8
        assert all(apart(one, two) for one, two in itertools.combinations(boxes, 2))
        assert all(b.x >= 0 and b.x + b.width <= drawing.width for b in boxes)
        assert all(b.y >= 0 and b.y + b.height <= drawing.height for b in boxes)
        heads = [mark for mark in drawing.marks if isinstance(mark, Stroke) and "l" in mark.path]
        assert len(heads) == len(ARROWS)
        told = [mark.text for mark in drawing.marks if isinstance(mark, Words)]
        assert {"0.85", "0.15", "apo/3", "0123456789"} <= set(told)


def test_an_arrow_that_passes_levels_runs_beside_them():
    drawing = graph_down(BOXES, ARROWS, "x", 350, 150, 30)
    right = max(b.x + b.width for b in drawing.marks if isinstance(b, Block))
    (lane,) = [mark.path for mark in drawing.marks if isinstance(mark, Stroke) and "H344V" in mark.path]
    assert lane
    assert right < 344
