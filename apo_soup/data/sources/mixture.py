"""The sources of a recipe's mixture, each with its rows and their format."""

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

from apo_soup.config.training import TrainingFile
from apo_soup.data.conversations.formats import Format, formats_of, recognise
from apo_soup.data.conversations.rename_guess import format_remedy
from apo_soup.data.sources.read import read_rows
from apo_soup.data.sources.rows import SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError

PEEKED = 100


@dataclass(frozen=True)
class MixtureSource:
    """A source, its number in the mixture, its rows, and the format they have."""

    number: int
    source: Source
    rows: Iterator[SourceRow]
    format: Format


def named_sources(recipe: TrainingFile) -> list[Source]:
    """The sources of a mixture in their order; one that is listed again is told apart by its `listing`."""
    listed: Counter[str] = Counter()
    sources = []
    for number, entry in enumerate(recipe.dataset_mixture.datasets):
        source = Source.from_entry(entry, recipe.place(f"dataset_mixture.datasets.{number}"))
        listed[source.name] += 1
        sources.append(replace(source, listing=listed[source.name]))
    return sources


def mixture_sources(recipe: TrainingFile, without: Collection[int] = ()) -> Iterator[MixtureSource]:
    """Every source with its rows and their format, recognised from the first rows where the recipe names none.

    Args:
        without: numbers of sources that are passed over.

    Raises:
        UserError: a format nobody knows, or none that fits the first rows.
    """
    formats = formats_of(recipe.kind == "apo")
    for number, source in enumerate(named_sources(recipe)):
        if number in without:
            continue
        key = f"dataset_mixture.datasets.{number}"
        where = recipe.place(f"{key}.id")
        rows = read_rows(source, where)
        if source.format:
            row_format = named_format(source.format, formats, recipe.place(f"{key}.format"))
        else:
            peeked = list(islice(rows, PEEKED))
            rows = chain(peeked, rows)
            row_format = recognised_format(source, peeked, formats, where)
        yield MixtureSource(number, source, rows, replace(row_format, turn_order=source.turn_order))


def nulls_note(count: int, name: str) -> str:
    """A line on `count` rows of a source with nulls inside calls or tools."""
    return (
        f"note: nulls inside the calls or tools of {count:,} row{'' if count == 1 else 's'} of {name} stand for keys "
        "that the row does not have; where they are meant, write keep_nulls: true for the source"
    )


def named_format(name: str, formats: tuple[Format, ...], where: str) -> Format:
    """The format of that name.

    Raises:
        UserError: there is none.
    """
    row_format = next((f for f in formats if f.name == name), None)
    if row_format is None:
        raise UserError(f"{where}: expected one of {', '.join(f.name for f in formats)}, got {name}; correct the name")
    return row_format


def recognised_format(source: Source, peeked: list[SourceRow], formats: tuple[Format, ...], where: str) -> Format:
    """The format of the first row that has one; the first format where no row can be read.

    Raises:
        UserError: rows can be read and none of them fits a format.
    """
    readable = [row.content for row in peeked if row.content is not None]
    row_format = next((f for f in (recognise(content, formats) for content in readable) if f), None)
    if row_format is None and readable:
        have = ", ".join(sorted(readable[0])) or "no fields"
        remedy = format_remedy(readable[0], formats is formats_of(pairs=True))
        raise UserError(
            f"{where}: source {source.name}: expected rows of a format among {', '.join(f.name for f in formats)}, got "
            f"rows with {have}; {remedy}"
        )
    return row_format or formats[0]
