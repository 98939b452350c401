"""What a person's rows are: their format, modes and tools, found by reading each of them once."""

import json
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

from apo_soup.data.conversations.conversation import PlainText, PreferencePair, RowItem, parse_supervised
from apo_soup.data.conversations.formats import TEXT, canonical, format_of_row, formats_of, recognise
from apo_soup.data.conversations.pair import parse_pair
from apo_soup.data.conversations.rename_guess import guessed_rename
from apo_soup.data.conversations.tagged_thoughts import with_think_blocks
from apo_soup.data.conversations.turn_fields import HARMLESS, TOOL_FIELDS
from apo_soup.data.conversations.unread import unread_fields
from apo_soup.data.prompt_marks import prompt_mark
from apo_soup.data.sources.mixture import PEEKED, recognised_format
from apo_soup.data.sources.read import read_rows
from apo_soup.data.sources.rows import Fields, RowError, SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError


@dataclass(frozen=True)
class RowReader:
    """How the rows of a file are read: as which format, by which names of columns.

    Attributes:
        where: what named the file, for sentences.
        pairs: whether they are preferences.
    """

    source: Source
    where: str
    pairs: bool
    format: Any

    @classmethod
    def of(cls, file: str, where: str, pairs: bool) -> "RowReader":
        """A reader for a file, whose first rows tell the format, or which columns are likely to be its fields.

        Raises:
            UserError: there is no such file or no row in it, or no format fits.
        """
        source, formats = Source(file), formats_of(pairs)
        peeked = list(islice(read_rows(source, where), PEEKED))
        if not peeked:
            raise UserError(f"{where}: expected at least one row, got none in {file}; write its rows first")
        readable = [row.content for row in peeked if row.content is not None]
        if not readable:
            raise UserError(f"{where}: {peeked[0].place}: {peeked[0].problem}")
        if not any(recognise(content, formats) for content in readable):
            other, option = ("conversations", "--data") if pairs else ("preference pairs", "--pairs")
            others = [one for one in formats_of(not pairs) if one is not TEXT]
            if pairs and isinstance(readable[0].get("label"), bool):
                raise UserError(
                    f"{where}: expected preference pairs, got single answers that are labelled right or wrong in "
                    f"{file}, which is another method's (KTO); give the right ones alone with --data"
                )
            if readable[0].keys() - HARMLESS == {"prompt"}:
                raise UserError(f"{where}: expected answers too, got prompts alone in {file}; give it with --prompts")
            if recognise(readable[0], tuple(others)):
                what = "preference pairs" if pairs else "conversations or texts"
                raise UserError(f"{where}: expected {what}, got {other} in {file}; give it with {option}")
            renamed = guessed_rename(readable[0], pairs)
            source = replace(source, rename=tuple(renamed.items()))
            peeked = list(islice(read_rows(source, where), PEEKED)) if renamed else peeked
        return cls(source, where, pairs, recognised_format(source, peeked, formats, where))

    def rows(self) -> Iterator[tuple[SourceRow, RowItem | None, str]]:
        """Every row, with what it is; or with none, and the reason why it cannot be used.

        Raises:
            UserError: a file of the source cannot be read.
        """
        parse = parse_pair if self.pairs else parse_supervised
        for row in read_rows(self.source, self.where):
            try:
                _need_whole_characters(row.fields)
                item = parse(canonical(row.fields, format_of_row(row.fields, self.format, named=False)), {})
                yield row, with_think_blocks(item, lambda _: False)[0], ""
            except RowError as error:
                yield row, None, str(error)


@dataclass
class RowsLookedAt:
    """What was found in a file of rows.

    Attributes:
        groups: for each usable row, in order, a number that rows of one prompt share.
        unusable: rows that cannot be used, `first` the place of the first with its reason.
        refused: of the usable rows that were `tried` with the model, which no training takes, by number, and why;
            `first_refused` the place of the first with its reason.
        unread: fields that say something and that nothing reads, with the number of rows that have them.
        stated: usable rows that say their mode; `thinking` rows with reasoning, `told_to_think` rows in think mode
            that say so; `texts` plain texts; `tooled` rows with tools.
    """

    reader: RowReader
    groups: "array[int]" = field(default_factory=lambda: array("q"))
    unusable: int = 0
    first: str = ""
    stated: int = 0
    thinking: int = 0
    told_to_think: int = 0
    texts: int = 0
    tooled: int = 0
    unread: Counter[str] = field(default_factory=Counter)
    refused: dict[int, str] = field(default_factory=dict)
    tried: int = 0
    first_refused: str = ""

    @classmethod
    def of(cls, reader: RowReader) -> "RowsLookedAt":
        """Read all rows once.

        Raises:
            UserError: none of them can be used.
        """
        seen = cls(reader)
        for row, item, reason in reader.rows():
            if item is None:
                seen.unusable += 1
                seen.first = seen.first or f"{row.place}: {reason}"
            else:
                seen._add(item)
                turns = () if isinstance(item, PlainText) else item.messages
                form = format_of_row(row.fields, reader.format, named=False)
                seen.unread.update(unread_fields(row.fields, turns, form.reads, form.copies))
        if not seen.rows:
            told = f"expected a row that can be used in {reader.source.id}, got none"
            raise UserError(f"{reader.where}: {told}; the first: {seen.first}")
        return seen

    def _add(self, item: RowItem) -> None:
        self.groups.append(prompt_mark(item).group)
        if isinstance(item, PlainText):
            self.texts += 1
            return
        self.stated += item.stated_mode is not None
        self.thinking += item.reasons
        self.told_to_think += item.stated_mode is True
        calls = any("tool_calls" in message for message in item.messages)
        self.tooled += calls or any(item.kwargs.get(name) for name in TOOL_FIELDS)

    def refuse(self, refused: dict[int, str], places: list[str]) -> None:
        """Take note of usable rows that a training with the model refuses, of those that were tried.

        Raises:
            UserError: it refuses all of them.
        """
        self.refused, self.tried = refused, len(places)
        if refused:
            first = min(refused)
            self.first_refused = f"{places[first]}: {refused[first]}"
        if len(refused) == len(places):
            told = f"expected a row that can be trained on in {self.reader.source.id}, got none"
            of_first = f" among the first {self.tried:,}" if self.rows > self.tried else ""
            raise UserError(f"{self.reader.where}: {told}{of_first}; the first: {self.first_refused}")

    def told_of_refused(self) -> Iterator[str]:
        """That rows are left out which no training with the model takes, in a line."""
        if self.refused:
            what = "pairs" if self.reader.pairs else "rows"
            of = f"the first {self.tried:,}" if self.rows > self.tried else f"{self.tried:,}"
            told = f"{len(self.refused):,} of {of} {what} cannot be trained on, and are left out"
            yield f"{self.reader.source.id}: {told}; the first: {self.first_refused}"

    @property
    def rows(self) -> int:
        """Usable ones."""
        return len(self.groups)

    @property
    def thinks(self) -> bool:
        """Whether any row is in think mode."""
        return bool(self.thinking or self.told_to_think)

    @property
    def mode_keys(self) -> dict[str, Any]:
        """The keys of a source that say the mode of rows which do not say it, under a template that knows modes."""
        if self.stated == self.rows or self.texts == self.rows:
            return {}
        return {"mode": "by_row"} if self.thinks else {"chat_template_kwargs": {"enable_thinking": False}}

    def told(self) -> Iterator[str]:
        """What was seen, a line each."""
        what = "pairs" if self.reader.pairs else "rows"
        modes = {"with reasoning": self.thinking, "without reasoning": self.rows - self.thinking - self.texts}
        found = [f"{count:,} {name}" for name, count in modes.items() if count]
        found += [f"{self.texts:,} plain texts"] if self.texts else []
        found += [f"{self.tooled:,} with tools"] if self.tooled else []
        name = self.reader.source.id
        yield f"{name}: {self.rows:,} {what} of format {self.reader.format.name}: {', '.join(found)}"
        renamed = dict(self.reader.source.rename)
        if renamed:
            told = ", ".join(f"{column} as {need}" for column, need in renamed.items())
            yield f"{name}: columns are read by what they seem to be: {told}"
        unread = [{"source": name, "field": one, "rows": rows} for one, rows in sorted(self.unread.items())]
        from apo_soup.data.statistics_table import unread_lines  # brings torch, which a check does without

        warnings = [line for line in unread_lines({"unread_fields": unread}) if line.startswith("warning")]
        yield from warnings
        if len(unread) > len(warnings):
            yield f"{name}: fields that are not used: {', '.join(sorted(self.unread))}"
        if self.unusable:
            told = f"{self.unusable:,} of {self.rows + self.unusable:,} {what} cannot be used, and are left out"
            yield f"{name}: {told}; the first: {self.first}"


def _need_whole_characters(fields: Fields) -> None:
    """Raise RowError where a row holds half of a character, which no tokenizer takes and no file holds."""
    try:
        written_row(fields).encode()
    except UnicodeEncodeError:
        raise RowError("expected UTF-8, got half of a character (a lone surrogate); correct the row") from None


def heldout_row(item: RowItem, knows_modes: bool) -> Fields:
    """A row as evaluations read it: in this project's own shape, with its mode said where the template knows modes."""
    if isinstance(item, PlainText):
        return {"text": item.text}
    kwargs = dict(item.kwargs)
    if knows_modes and item.stated_mode is None:
        kwargs["enable_thinking"] = item.reasons
    more = {"chat_template_kwargs": kwargs} if kwargs else {}
    if isinstance(item, PreferencePair):
        return {"prompt": item.prompt, "chosen": item.chosen, "rejected": item.rejected, **more}
    return {"messages": item.messages, **more}


def written_row(fields: Fields) -> str:
    """A row as a line of JSON."""
    return json.dumps(fields, ensure_ascii=False, default=str) + "\n"
