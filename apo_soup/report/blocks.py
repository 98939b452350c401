"""What a page is laid out from: sections of tables, figures and folded parts, laid out by `report/blocks.jinja`.

Everything in them is plain text: the templates escape it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from apo_soup.pages.drawing import Drawing


@dataclass(frozen=True)
class Strip:
    """Shares from 0 to 1 side by side, each with what it is of; None where it was not measured."""

    parts: list[tuple[float | None, str]]


@dataclass(frozen=True)
class TableCell:
    """A table's cell: text, what stands small below it, whether that is good or bad, and a strip of shares."""

    text: str
    small: str = ""
    tone: str = ""
    strip: Strip | None = None


@dataclass(frozen=True)
class PageTable:
    """A table whose first column is its rows' name; `verdicts` has a second one that stays in view on a phone."""

    kind: ClassVar[str] = "table"
    header: list[TableCell]
    rows: list[list[TableCell]]
    note: str = ""
    verdicts: bool = False
    prose: bool = False


@dataclass(frozen=True)
class Bars:
    """A bar a row, cut into what is trained and what is context: (name, trained, both)."""

    kind: ClassVar[str] = "bars"
    rows: list[tuple[str, int, int]]

    @property
    def longest(self) -> int:
        """The most of both."""
        return max((both for *_, both in self.rows), default=0) or 1


@dataclass(frozen=True)
class PageFigure:
    """A drawing, table or bars with a title above and a note below."""

    title: str
    content: "Drawing | PageTable | Bars"
    note: str = ""


@dataclass(frozen=True)
class Figures:
    """Figures side by side, as many as the screen holds."""

    kind: ClassVar[str] = "figures"
    figures: list[PageFigure]


@dataclass(frozen=True)
class Graph:
    """One graph drawn twice: for wide and for narrow screens."""

    kind: ClassVar[str] = "graph"
    across: Drawing
    down: Drawing


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    kind: ClassVar[str] = "prose"
    text: str


@dataclass(frozen=True)
class Listing:
    """Text as it is, line by line."""

    kind: ClassVar[str] = "listing"
    text: str


@dataclass(frozen=True)
class AnswerCard:
    """A checkpoint's answer; `right` is None where nothing judged it."""

    name: str
    right: bool | None
    text: str


@dataclass(frozen=True)
class Question:
    """A question of a task with the answers in each mode; `shown` is not folded."""

    kind: ClassVar[str] = "question"
    task: str
    text: str
    answers: dict[str, list[AnswerCard]]
    shown: bool


@dataclass(frozen=True)
class Folded:
    """Parts that a reader opens."""

    kind: ClassVar[str] = "folded"
    title: str
    parts: "Sequence[PageBlock]"


PageBlock = PageTable | Figures | Graph | Prose | Listing | Question | Folded


@dataclass(frozen=True)
class Section:
    """A part of the page; one without blocks was not run."""

    title: str
    blocks: Sequence[PageBlock] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """Its place on the page."""
        return re.sub(r"[^a-z]+", "-", self.title.lower()).strip("-")


def cells(*texts: object) -> list[TableCell]:
    """Cells of plain text."""
    return [TableCell(str(text)) for text in texts]


def interval_text(low: float | None, high: float | None, digits: int = 2) -> str:
    """An interval in words, empty for none.

    >>> interval_text(0.125, 0.5), interval_text(None, None)
    ('0.12–0.50', '')
    """
    return "" if low is None or high is None else f"{low:.{digits}f}–{high:.{digits}f}"
