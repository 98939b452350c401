"""Rows as the model will see them, page by page and by source, for every file of a recipe that has rows.

They go through the encoder that prepares them, as `apo-soup preview` shows them. A page reads the rows that it shows;
of a source that is opened for the first time also its first thousand, by which format and mode are recognised.
"""

import shlex
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from apo_soup.config.kinds import stage_of_file
from apo_soup.config.training import TrainingFile
from apo_soup.data.sources.row_pages import RowPages
from apo_soup.data.sources.rows import SourceRow
from apo_soup.errors import UserError
from apo_soup.models.libraries import quiet_libraries
from apo_soup.runs.machine_paths import short_path
from apo_soup.runs.makers import missing_sources
from apo_soup.runs.sources import file_states
from apo_soup.ui.stage_folders import files_of_stages

ROWS_A_PAGE = 10
# Of a text, where a page shows several rows; the rest is left out of its middle.
CHARACTERS_A_TEXT = 16_000
_KINDS_WITH_ROWS = ("sft", "traces", "pairs", "apo")

Opened = Callable[[Path], TrainingFile]


@dataclass
class RowsShown:
    """A page of rows: the file, its sources, the number of the one that is shown, what is said of it, its rows (each
    with whether parts of it are left out), the number of the first, and whether there are more. `problem` is a sentence
    in place of the rows.
    """

    file: str
    sources: list[str] = field(default_factory=list)
    number: int = 0
    about: str = ""
    rows: list[tuple[Any, bool]] = field(default_factory=list)
    first: int = 0
    more: bool = False
    notes: list[str] = field(default_factory=list)
    problem: str = ""


@dataclass(frozen=True)
class _Reader:
    """What shows the rows of a file, as long as no file of the recipe changes."""

    state: Any
    recipe: TrainingFile
    encoder: Any
    notes: tuple[str, ...]
    missing: dict[int, Path]


@dataclass(frozen=True)
class _OpenedSource:
    """A source of a reader with its format; its rows by their numbers; and what was said when it was opened."""

    reader: _Reader
    source: Any
    format: Any
    pages: RowPages
    notes: tuple[str, ...]


class RowViews:
    """The rows of a recipe's files. Pages are rendered one at a time; meanwhile rows of others are read."""

    def __init__(self, recipe: Path, opened: Opened):
        """`opened` gives the checked file; of one that makes rows, a file that reads them."""
        self.recipe = recipe
        self._opened = opened
        self._lock = threading.Lock()
        self._readers: dict[str, _Reader] = {}
        self._sources: dict[tuple[str, int], _OpenedSource] = {}

    def files(self) -> list[str]:
        """The names of the files that have rows, in the order of the stages."""
        return [file.stem for file in files_of_stages(self.recipe) if stage_of_file(file) in _KINDS_WITH_ROWS]

    def page(self, name: str, number: int, first: int = 0, whole: bool = False) -> RowsShown | None:
        """A page of a file's source from row `first` on (from 0), or that row alone and `whole`; None where there is no
        such file or source.
        """
        if name not in self.files():
            return None
        shown = RowsShown(name, number=number, first=first)
        try:
            with self._lock:
                reader = self._reader(name)
                shown.sources = source_names(reader.recipe)
                if number >= len(shown.sources):
                    return None
                opened = self._about(shown, reader)
            rows, shown.more = opened.pages.rows(first, 1 if whole else ROWS_A_PAGE)
            with self._lock:
                for row in rows:
                    one = self._row(row, opened)
                    shown.rows.append((one, False) if whole else shortened_row(one, CHARACTERS_A_TEXT))
        except UserError as error:
            shown.problem = str(error)
        return shown

    def _reader(self, name: str) -> _Reader:
        file = self.recipe / f"{name}.yaml"
        state = file_states(sorted(self.recipe.glob("*.yaml")), str(self.recipe))
        recipe = self._opened(file)
        known = self._readers.get(name)
        if known is not None and known.state == state:
            # What its sources wait for may have been made since.
            return replace(known, missing=missing_sources(recipe))
        quiet_libraries()
        from apo_soup.data.encode import encoder_for
        from apo_soup.data.options import Options
        from apo_soup.models.recipe_tokenizer import recipe_tokenizer

        notes: list[str] = []
        encoder = encoder_for(recipe_tokenizer(recipe, notes.append), Options.of(recipe))
        reader = _Reader(state, recipe, encoder, (*recipe.notes, *notes), missing_sources(recipe))
        self._readers[name] = reader
        self._sources = {key: source for key, source in self._sources.items() if key[0] != name}
        return reader

    def _about(self, shown: RowsShown, reader: _Reader) -> _OpenedSource:
        """The source of a page, opened, and what is said of it; raises UserError where its rows are not made yet."""
        number, recipe = shown.number, reader.recipe
        keys = recipe.dataset_mixture.datasets[number]
        if number in reader.missing:
            maker = reader.missing[number]
            raise UserError(
                f"{recipe.place(f'dataset_mixture.datasets.{number}.id')}: expected rows, got {keys.written_id}, which "
                f"{maker.name} has not made yet; make them: "
                f"`apo-soup run {maker.stem} {shlex.quote(str(recipe.path.parent))}`"
            )
        opened = self._source(shown.file, reader, number)
        share = f"weight {keys.weight:g}" if keys.token_share is None else f"token_share {keys.token_share:g}"
        shown.about = f"format {opened.format.name}, {share}"
        shown.notes = [*reader.notes, *opened.notes]
        return opened

    def _source(self, name: str, reader: _Reader, number: int) -> _OpenedSource:
        known = self._sources.get((name, number))
        if known is not None and known.reader.recipe is reader.recipe:
            return known
        from apo_soup.data.conversations.source_mode import sources_in_mode
        from apo_soup.data.sources.mixture import mixture_sources

        recipe, options = reader.recipe, reader.encoder.options
        others = [other for other in range(len(recipe.dataset_mixture.datasets)) if other != number]
        notes: list[str] = []
        entries = mixture_sources(recipe, others)
        if reader.encoder.renderer.knows_modes:
            entries = sources_in_mode(entries, options.template_kwargs, reader.encoder.read, notes.append)
        entry = next(entries)
        pages = RowPages(entry.source, recipe.place(f"dataset_mixture.datasets.{number}.id"))
        opened = _OpenedSource(reader, entry.source, entry.format, pages, tuple(notes))
        self._sources[name, number] = opened
        return opened

    def _row(self, row: SourceRow, opened: _OpenedSource) -> Any:
        from apo_soup.data.documents import RowToEncode
        from apo_soup.data.shown_rows import ShownRow, shown_row
        from apo_soup.data.sources.read import SourceColumns

        named = SourceColumns(opened.source).named(row)
        try:
            return shown_row(RowToEncode(opened.source, named, opened.format, 1, checked=False), opened.reader.encoder)
        except UserError as error:
            return ShownRow(row.place, notes=[str(error)])


def source_names(recipe: TrainingFile) -> list[str]:
    """What the sources of a file are called."""
    from apo_soup.data.sources.mixture import named_sources

    return [short_path(source.name) for source in named_sources(recipe)]


def shortened_row(row: Any, limit: int) -> tuple[Any, bool]:
    """A row whose texts have at most `limit` characters each, with what is left out of their middle told in its place;
    and whether that was done.
    """
    from apo_soup.data.shown_rows import ShownPair, ShownText

    texts: list[Any] = []
    for text in row.texts:
        if isinstance(text, ShownText):
            texts.append(replace(text, pieces=_shortened_pieces(text.pieces, limit)))
        elif isinstance(text, ShownPair):
            texts.append(_shortened_pair(text, limit))
        else:
            texts.append(shortened_text(text, limit))
    return (row, False) if texts == row.texts else (replace(row, texts=texts), True)


def _shortened_pair(pair: Any, limit: int) -> Any:
    prompt, shared, chosen, rejected = (
        shortened_text(text, limit) for text in (pair.prompt, pair.shared, pair.chosen, pair.rejected)
    )
    return replace(pair, prompt=prompt, shared=shared, chosen=chosen, rejected=rejected)


def _shortened_pieces(pieces: list[Any], limit: int) -> list[Any]:
    length = sum(len(piece.text) for piece in pieces)
    if length <= limit:
        return pieces
    first, last = limit - limit // 4, length - limit // 4
    kept, start, told = [], 0, False
    for piece in pieces:
        text, end = piece.text, start + len(piece.text)
        if start < first:
            kept.append(replace(piece, text=text[: first - start]))
        if end > first and not told:
            kept.append(replace(piece, text=_left_out(last - first), trained=False, special=False))
            told = True
        if end > last:
            kept.append(replace(piece, text=text[max(0, last - start) :]))
        start = end
    return kept


def shortened_text(text: str, limit: int) -> str:
    """A text of at most `limit` characters beside what tells how many were left out of its middle.

    >>> shortened_text("0123456789", 8), shortened_text("01234567", 8)
    ('012345 [... 2 characters ...] 89', '01234567')
    """
    if len(text) <= limit:
        return text
    first, last = limit - limit // 4, len(text) - limit // 4
    return text[:first] + _left_out(last - first) + text[last:]


def _left_out(count: int) -> str:
    return f" [... {count:,} characters ...] "
