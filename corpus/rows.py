"""Read the rows of a source, local or on the Hub, one after another, with a place to point at."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import UserError, first_line
from pipeline.inputs import row_files


class RowError(ValueError):
    """A row that cannot be used; the message names the field, what was found and what was expected."""


@dataclass(frozen=True)
class Source:
    """One entry of `dataset_mixture.datasets`. `weight` is the share of rows kept; above 1 repeats rows."""

    id: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: tuple[str, ...] | None = None
    weight: float = 1.0

    @classmethod
    def from_entry(cls, entry: dict[str, Any]) -> "Source":
        columns = entry.get("columns")
        return cls(**{**entry, "columns": tuple(columns) if columns else None})

    @property
    def name(self) -> str:
        """What tables and messages call this source."""
        if self.config is None and self.split == "train":
            return self.id
        return ":".join(p for p in (self.id, self.config, self.split) if p)


@dataclass(frozen=True)
class Row:
    """A raw row: its fields, or the reason it could not be read; `place` is file:line or source:row."""

    place: str
    content: dict[str, Any] | None
    problem: str | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """The row's fields; raises RowError with the reason if it could not be read."""
        if self.content is None:
            raise RowError(self.problem)
        return self.content

    def only(self, columns: tuple[str, ...] | None) -> "Row":
        """The row with just these columns (all of them for None)."""
        if self.content is None or columns is None:
            return self
        return Row(self.place, {c: self.content[c] for c in columns if c in self.content})


def read(source: Source, where: str) -> Iterator[Row]:
    """All rows of a source in their stored order. A broken line is a Row with a problem, never an exception."""
    files = row_files(source.id, where)
    if files is None:
        yield from _hub_rows(source, where)
        return
    for file in files:
        yield from (_json_lines(file) if file.suffix == ".jsonl" else _table_rows(file, where))


def read_all(file: str, where: str) -> list[Row]:
    """All rows of a local file, none of them broken; raises UserError with the place of the first that is."""
    rows = list(read(Source(file), where))
    for row in rows:
        if row.content is None:
            raise UserError(f"{row.place}: {row.problem}")
    if not rows:
        raise UserError(f"{where}: {file} holds no row")
    return rows


def _json_lines(file: Path) -> Iterator[Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            place = f"{file}:{number}"
            if not line.strip():
                continue
            try:
                fields = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                yield Row(place, None, f"not valid UTF-8 at byte {error.start} of the line")
                continue
            except json.JSONDecodeError as error:
                yield Row(place, None, f"not valid JSON at column {error.colno}: {error.msg}")
                continue
            if isinstance(fields, dict):
                yield Row(place, fields)
            else:
                yield Row(place, None, f"expected a JSON object, found {type(fields).__name__}")


def _table_rows(file: Path, where: str) -> Iterator[Row]:
    from datasets import load_dataset

    try:
        if file.suffix == ".arrow":
            from datasets import Dataset

            table = Dataset.from_file(str(file))
        else:
            table = load_dataset(file.suffix[1:], data_files=str(file), split="train")
    except Exception as error:
        raise UserError(f"{where}: {file} cannot be read as {file.suffix[1:]}: {first_line(error)}") from error
    for number, fields in enumerate(table):
        yield Row(f"{file}:row {number}", without_nulls(fields))


def _hub_rows(source: Source, where: str) -> Iterator[Row]:
    from datasets import load_dataset

    try:
        table = load_dataset(source.id, source.config, split=source.split, revision=source.revision)
    except Exception as error:
        raise UserError(
            f"{where}: dataset {source.name} cannot be loaded from the Hub ({type(error).__name__}: "
            f"{first_line(error)}); check id, config and split, or give a local file"
        ) from error
    for number, fields in enumerate(table):
        yield Row(f"{source.name}:row {number}", without_nulls(fields))


def without_nulls(value: Any) -> Any:
    """Drop keys whose value is None, at every depth: table formats add them to rows that never had them."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(v) for v in value]
    return value


def sample(count: int, weight: float, seed: int, name: str) -> list[int]:
    """Indices of the rows to keep of `count`: a seeded share `weight`; above 1, whole repeats and a share.

    The draw depends on the seed and the source's name only, so it is the same on every machine and process count.
    """
    whole, part = divmod(weight, 1.0)
    rng = random.Random(f"{seed} {name}")
    kept = list(range(count)) * int(whole)
    kept += sorted(rng.sample(range(count), round(part * count)))
    return kept
