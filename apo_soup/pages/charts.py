"""Charts: lines over steps, and dots in rows. Their colours are the page's own, which follow light and dark."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from apo_soup.pages.axes import Axis, axis_just_over, axis_over
from apo_soup.pages.drawing import LETTER, Drawing, Mark, Spot, Stroke, Words, legend_marks, series_style, shortened

# Pixels of a drawing, and of the margins around its plot.
WIDTH, HEIGHT = 340, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 18, 30
# A line needs no more points than it has pixels to stand on.
_MOST_POINTS = 300
# Pixels of a row of dots, and of the names beside it.
_ROW, _NAMES = 20, 128


@dataclass(frozen=True)
class Line:
    """Points (x, y) of a name; and intervals (x, low, high) of some of them."""

    name: str
    points: list[tuple[float, float]]
    bands: list[tuple[float, float, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Dot:
    """A value with a style, what it is, and an interval where it has one; a small one stands above the row's middle."""

    value: float
    style: str
    told: str = ""
    interval: tuple[float, float] | None = None
    small: bool = False


def thinned_line(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A long line as means of neighbouring points, at most 300."""
    step = math.ceil(len(line) / _MOST_POINTS)
    if step <= 1:
        return line
    parts = [line[i : i + step] for i in range(0, len(line), step)]
    return [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts]


def line_chart(
    lines: Sequence[Line],
    unit: str,
    within: tuple[float, float] | None = None,
    marked: tuple[float, str] | None = None,
) -> Drawing:
    """Lines over shared axes, a legend below the plot where there are several.

    Args:
        unit: what the horizontal axis counts.
        within: what the vertical axis holds whatever the values.
        marked: a place of the horizontal axis with its name, drawn as an upright line.
    """
    drawn = [Line(one.name, thinned_line([p for p in one.points if math.isfinite(p[1])]), one.bands) for one in lines]
    drawn = [one for one in drawn if one.points]
    label = f"{', '.join(one.name for one in drawn) or 'no finite value'} by {unit}"
    if not drawn:
        return Drawing(WIDTH, HEIGHT, label, [Words(WIDTH / 2, HEIGHT / 2, "no finite value", "middle")])
    values = [y for one in drawn for _, y in one.points] + [v for one in drawn for _, *ends in one.bands for v in ends]
    across = axis_just_over([x for one in drawn for x, _ in one.points], _LEFT, WIDTH - _RIGHT)
    down = axis_over(values, HEIGHT - _BOTTOM, _TOP, within=within)
    marks = [*_grid(down), *_steps(across, unit)]
    if marked:
        marks += _upright(across.at(marked[0]), marked[1])
    few = max(len(one.points) for one in drawn) <= 12
    for index, one in enumerate(drawn):
        style = series_style(index)
        for x, low, high in one.bands:
            marks.append(Stroke(f"M{across.at(x):.1f} {down.at(low):.1f}V{down.at(high):.1f}", f"band {style}"))
        path = "L".join(f"{across.at(x):.1f} {down.at(y):.1f}" for x, y in one.points)
        marks.append(Stroke(f"M{path}", f"line {style}"))
        if few:
            marks += [
                Spot(across.at(x), down.at(y), 2.6, f"dot {style}", f"{one.name}: {y:.4g}") for x, y in one.points
            ]
    if len(drawn) == 1:
        return Drawing(WIDTH, HEIGHT, label, marks)
    entries = [(series_style(index), one.name) for index, one in enumerate(drawn)]
    legend, height = legend_marks(entries, _LEFT, HEIGHT + 4, WIDTH)
    return Drawing(WIDTH, height, label, marks + legend)


def _grid(down: Axis) -> list[Mark]:
    marks: list[Mark] = []
    for tick in down.ticks:
        y = down.at(tick)
        marks.append(Stroke(f"M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}", "axis" if tick == 0 else "grid"))
        marks.append(Words(_LEFT - 5, y + 4, down.text(tick), "end"))
    return marks


def _steps(across: Axis, unit: str) -> list[Mark]:
    """The ticks of the horizontal axis, and its unit behind the last of them or below it."""
    marks: list[Mark] = []
    for tick in across.ticks:
        x, text = across.at(tick), across.text(tick)
        marks.append(Stroke(f"M{x:.1f} {HEIGHT - _BOTTOM}v4", "axis"))
        beyond = x + LETTER * len(text) / 2 > WIDTH
        marks.append(Words(WIDTH if beyond else x, HEIGHT - _BOTTOM + 15, text, "end" if beyond else "middle"))
    return [*marks, Words((_LEFT + WIDTH - _RIGHT) / 2, HEIGHT - 3, unit, "middle", "quiet")]


def _upright(x: float, name: str) -> list[Mark]:
    beyond = x + LETTER * len(name) / 2 > WIDTH
    return [
        Stroke(f"M{x:.1f} {_TOP - 4}V{HEIGHT - _BOTTOM}", "marked"),
        Words(
            WIDTH if beyond else max(0, x - LETTER * len(name) / 2),
            _TOP - 7,
            name,
            "end" if beyond else "start",
            "strong",
        ),
    ]


def dot_chart(
    rows: Sequence[tuple[str, list[Dot]]], label: str, legend: list[tuple[str, str]], within: tuple[float, float]
) -> Drawing:
    """A row a name with its dots over one axis, a legend of (style, name) below it.

    Args:
        within: what the axis holds whatever the values; where it holds values on both sides of 0, 0 is drawn through.
    """
    values = [v for _, dots in rows for dot in dots for v in (dot.value, *(dot.interval or ()))]
    across = axis_over(values, _NAMES, WIDTH - _RIGHT, within=within)
    bottom = 8 + _ROW * len(rows)
    marks: list[Mark] = []
    for tick in across.ticks:
        x = across.at(tick)
        marks.append(Stroke(f"M{x:.1f} 4V{bottom}", "axis" if tick == 0 else "grid"))
        marks.append(Words(x, bottom + 14, across.text(tick), "middle"))
    for number, (name, dots) in enumerate(rows):
        y = 8 + _ROW * (number + 0.5)
        lower = y + 3 if any(dot.small for dot in dots) else y
        marks.append(Words(_NAMES - 10, y + 4, shortened(name, _NAMES - 12), "end", "", name))
        for dot in dots:
            if dot.interval:
                low, high = map(across.at, dot.interval)
                marks.append(Stroke(f"M{low:.1f} {lower:.1f}H{high:.1f}", f"whisker {dot.style}"))
        for dot in dots:
            radius, height = (2.2, y - 5) if dot.small else (3.6, lower)
            marks.append(Spot(across.at(dot.value), height, radius, f"dot {dot.style}", dot.told))
    marks_below, height = legend_marks(legend, 0 if len(legend) > 2 else _NAMES, bottom + 24, WIDTH)
    return Drawing(WIDTH, height, label, marks + marks_below)
