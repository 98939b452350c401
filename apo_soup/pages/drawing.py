"""Drawings as marks in pixels, which `pages/drawing.jinja` lays out as SVG; `style` names classes of `drawing.css`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from apo_soup.pages.render import rendered

# A letter's width of the page's 11 pixels, on average.
LETTER = 6.1
# Colours of the page, `--c0` on; a ninth series begins anew.
COLOURS = 8


@dataclass(frozen=True)
class Words:
    """Text at a place; `told`, such as all of a text that was cut, is shown where a pointer rests on it."""

    kind: ClassVar[str] = "words"
    x: float
    y: float
    text: str
    anchor: Literal["start", "middle", "end"] = "start"
    style: str = ""
    told: str = ""


@dataclass(frozen=True)
class Stroke:
    """A line by SVG's path."""

    kind: ClassVar[str] = "stroke"
    path: str
    style: str = ""


@dataclass(frozen=True)
class Block:
    """A rectangle."""

    kind: ClassVar[str] = "block"
    x: float
    y: float
    width: float
    height: float
    style: str = ""
    radius: float = 0


@dataclass(frozen=True)
class Spot:
    """A disc; `told` is shown where a pointer rests on it."""

    kind: ClassVar[str] = "spot"
    x: float
    y: float
    radius: float
    style: str = ""
    told: str = ""


Mark = Words | Stroke | Block | Spot


@dataclass(frozen=True)
class Drawing:
    """Marks on a sheet; `label` says what is drawn to those who cannot see it."""

    kind: ClassVar[str] = "drawing"
    width: float
    height: float
    label: str
    marks: list[Mark]


def series_style(index: int) -> str:
    """The class that gives a series its colour, counted from 0."""
    return f"s{index % COLOURS}"


def shortened(text: str, pixels: float) -> str:
    """As much of a text as fits, with an ellipsis where some is left out.

    >>> shortened("mode kept", 100), shortened("a very long name", 40)
    ('mode kept', 'a ver…')
    """
    most = max(2, int(pixels / LETTER))
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}…"


def legend_marks(entries: list[tuple[str, str]], left: float, top: float, width: float) -> tuple[list[Mark], float]:
    """Colour and name of every (style, name), wrapped to a width; and where that ends."""
    marks: list[Mark] = []
    x, y = left, top
    for style, name in entries:
        size = 26 + LETTER * len(name)
        if x + size > width and x > left:
            x, y = left, y + 16
        marks += [Block(x, y, 10, 10, f"swatch {style}", 2), Words(x + 14, y + 9, shortened(name, width - left - 20))]
        x += size
    return marks, y + 16


def svg_file(drawing: Drawing) -> str:
    """A drawing as a file of its own, for light and dark."""
    return rendered("pages/file.svg.jinja", drawing=drawing)
