"""Boxes with arrows between them, in levels: from left to right, or from top to bottom where a screen is narrow."""

from dataclasses import dataclass, field
from itertools import groupby

from apo_soup.pages.drawing import Block, Drawing, Mark, Stroke, Words, shortened

# Pixels: room inside of a box, height of a line, room between boxes of a level, and the lane of arrows that pass by.
_INSIDE, _LINE, _GAP, _LANE = 9, 16, 12, 24


@dataclass(frozen=True)
class Box:
    """A box of a level, counted from 0: its title, and lines of two texts, the second of which ends at the right."""

    name: str
    level: int
    lines: list[tuple[str, str]] = field(default_factory=list)
    style: str = ""


@dataclass(frozen=True)
class Arrow:
    """An arrow between boxes by their names, with a word beside it."""

    start: str
    end: str
    word: str = ""


@dataclass(frozen=True)
class _Place:
    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> tuple[float, float]:
        return self.left + self.width / 2, self.top + self.height / 2


def graph_across(boxes: list[Box], arrows: list[Arrow], label: str, width: float, gap: float) -> Drawing:
    """Levels from left to right; arrows that pass a level run below all boxes.

    Args:
        width: pixels of a box.
        gap: pixels between levels.
    """
    levels = _levels(boxes)
    tall = max(sum(_height(box) + _GAP for box in level) - _GAP for level in levels)
    places = {}
    for number, level in enumerate(levels):
        top = (tall - sum(_height(box) + _GAP for box in level) + _GAP) / 2 + 2
        for box in level:
            places[box.name] = _Place(number * (width + gap) + 2, top, width, _height(box))
            top += _height(box) + _GAP
    level_of = {box.name: number for number, level in enumerate(levels) for box in level}
    lane = tall + _LANE
    marks: list[Mark] = []
    for arrow in arrows:
        start, end = places[arrow.start], places[arrow.end]
        if level_of[arrow.end] - level_of[arrow.start] == 1:
            x, y, to, down = start.left + width, start.middle[1], end.left - 2, end.middle[1]
            half = (x + to) / 2
            marks.append(
                Stroke(f"M{x + 1:.1f} {y:.1f}C{half:.1f} {y:.1f} {half:.1f} {down:.1f} {to:.1f} {down:.1f}", "arrow")
            )
            marks.append(Stroke(f"M{to - 7:.1f} {down - 4:.1f}l7 4l-7 4", "arrow"))
            marks.append(Words(half, min(y, down) - 6, arrow.word, "middle"))
        else:
            x, to, under = start.middle[0], end.middle[0], end.top + end.height + 2
            marks.append(Stroke(f"M{x:.1f} {start.top + start.height + 1:.1f}V{lane}H{to:.1f}V{under:.1f}", "arrow"))
            marks.append(Stroke(f"M{to - 4:.1f} {under + 7:.1f}l4 -7l4 7", "arrow"))
            marks.append(Words((x + to) / 2, lane - 5, arrow.word, "middle"))
    passing = any(level_of[a.end] - level_of[a.start] != 1 for a in arrows)
    size = len(levels) * (width + gap) - gap + 4, lane + 4 if passing else tall + 4
    return Drawing(*size, label, marks + [mark for box in boxes for mark in _box_marks(box, places[box.name])])


def graph_down(boxes: list[Box], arrows: list[Arrow], label: str, width: float, most: float, gap: float) -> Drawing:
    """Levels from top to bottom; arrows that pass a level run to the right of all boxes.

    Args:
        width: pixels of the whole drawing.
        most: pixels that a box is wide at most.
        gap: pixels between levels.
    """
    levels = _levels(boxes)
    room = width - _LANE - 4
    places, top = {}, 2.0
    for level in levels:
        wide = min(most, (room - _GAP * (len(level) - 1)) / len(level))
        left = 2 + (room - wide * len(level) - _GAP * (len(level) - 1)) / 2
        for box in level:
            places[box.name] = _Place(left, top, wide, _height(box))
            left += wide + _GAP
        top += max(map(_height, level)) + gap
    level_of = {box.name: number for number, level in enumerate(levels) for box in level}
    marks: list[Mark] = []
    for arrow in arrows:
        start, end = places[arrow.start], places[arrow.end]
        if level_of[arrow.end] - level_of[arrow.start] == 1:
            (x, _), (to, _), y, down = start.middle, end.middle, start.top + start.height, end.top - 2
            half = (y + down) / 2
            marks.append(
                Stroke(f"M{x:.1f} {y + 1:.1f}C{x:.1f} {half:.1f} {to:.1f} {half:.1f} {to:.1f} {down:.1f}", "arrow")
            )
            marks.append(Stroke(f"M{to - 4:.1f} {down - 7:.1f}l4 7l4 -7", "arrow"))
            marks.append(Words(to + 8, down - 4, arrow.word))
        else:
            lane, to = width - 6, end.left + end.width + 2
            y, down = start.middle[1], end.middle[1]
            marks.append(Stroke(f"M{start.left + start.width + 1:.1f} {y:.1f}H{lane}V{down:.1f}H{to:.1f}", "arrow"))
            marks.append(Stroke(f"M{to + 7:.1f} {down - 4:.1f}l-7 4l7 4", "arrow"))
            marks.append(Words(lane - 4, down - 6, arrow.word, "end"))
    marks += [mark for box in boxes for mark in _box_marks(box, places[box.name])]
    return Drawing(width, top - gap + 2, label, marks)


def _levels(boxes: list[Box]) -> list[list[Box]]:
    ordered = sorted(boxes, key=lambda box: box.level)
    return [list(level) for _, level in groupby(ordered, key=lambda box: box.level)]


def _height(box: Box) -> float:
    return 2 * _INSIDE + 14 + _LINE * len(box.lines)


def _box_marks(box: Box, place: _Place) -> list[Mark]:
    room = place.width - 2 * _INSIDE
    x, y = place.left + _INSIDE, place.top + _INSIDE + 12
    marks: list[Mark] = [
        Block(place.left, place.top, place.width, place.height, f"box {box.style}".rstrip(), 6),
        Words(x, y, shortened(box.name, room), "start", "name", box.name),
    ]
    for number, (text, value) in enumerate(box.lines, 1):
        marks.append(Words(x, y + _LINE * number, shortened(text, room - 6.1 * len(value)), "start", "quiet", text))
        marks.append(Words(x + room, y + _LINE * number, value, "end", "value"))
    return marks
