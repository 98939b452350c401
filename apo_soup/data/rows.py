"""Read the rows of a source, local or on the Hub, one after another, with a place to point at.

Nothing is held: a source of any size passes through in batches. A row that cannot be read is a `Row` with a problem,
never an exception, so that it can be counted and listed.
"""

import codecs
import contextlib
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError, first_line
from apo_soup.runs.sources import hub_commit, row_files

BATCH = 256
ARBITRARY = ("arguments", "tools", "xml_tools", "python_tools", "parameters")
WRAPPERS = ("data", "rows", "examples", "train")


class RowError(ValueError):
    """A row that cannot be used; the message names the field, what was found and what was expected."""


@dataclass(frozen=True)
class Source:
    """One entry of `dataset_mixture.datasets`.

    `weight` is the share of rows kept; above 1 repeats rows. `format` is one of `apo_soup.data.formats`, found from the
    rows when it is None; `rename` maps the columns of the data to the names a format knows. `chat_template_kwargs` are
    the template arguments of its rows, below those that a row has itself. `listing` tells apart the entries of a
    mixture that name the same rows.
    """

    id: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: tuple[str, ...] | None = None
    weight: float = 1.0
    format: str | None = None
    rename: tuple[tuple[str, str], ...] = ()
    streaming: bool = False
    chat_template_kwargs: tuple[tuple[str, Any], ...] = ()
    listing: int = 1

    @classmethod
    def from_entry(cls, entry: dict[str, Any]) -> "Source":
        columns, rename = entry.get("columns"), entry.get("rename") or {}
        arguments = template_arguments(entry.get("chat_template_kwargs"))
        given = {"rename": tuple(rename.items()), "chat_template_kwargs": tuple(arguments.items())}
        return cls(**{**entry, **given, "columns": tuple(columns) if columns else None})

    @property
    def name(self) -> str:
        """What tables and messages call this source; one that is listed again has a number."""
        usual = self.config is None and self.split == "train"
        name = self.id if usual else ":".join(p for p in (self.id, self.config, self.split) if p)
        return name if self.listing == 1 else f"{name} #{self.listing}"


def template_arguments(given: dict[str, Any] | None) -> dict[str, Any]:
    """A recipe's template arguments; YAML reads 2025-07-01 as a date, and templates write text."""
    return {k: str(v) if isinstance(v, date) else v for k, v in (given or {}).items()}


@dataclass(frozen=True)
class Row:
    """A raw row: its fields, or the reason it could not be read; `place` is file:line or source:row.

    `size` is about how many characters it holds.
    """

    place: str
    content: dict[str, Any] | None
    problem: str | None = None
    size: int = 0

    @property
    def fields(self) -> dict[str, Any]:
        """The row's fields; raises RowError with the reason if it could not be read."""
        if self.content is None:
            raise RowError(self.problem)
        return self.content


def read(source: Source, where: str) -> Iterator[Row]:
    """All rows of a source in their stored order, with just its columns, under the names the formats know.

    Raises:
        UserError: a file that is not what its suffix says, a dataset the Hub does not give, or a column or renamed
            field that no row has.
    """
    files = row_files(source.id, where)
    rows = _hub_rows(source, where) if files is None else (row for file in files for row in _file_rows(file, where))
    wanted, renamed, missing = (
        source.columns,
        dict(source.rename),
        set(source.columns or ()) | dict(source.rename).keys(),
    )
    some = False
    for row in rows:
        some = True
        if row.content is None or (wanted is None and not renamed):
            yield row
            continue
        missing -= row.content.keys()
        chosen = {k: v for k, v in row.content.items() if wanted is None or k in wanted or k in renamed}
        # A column that is renamed takes the place of one that already has its name.
        taken = {renamed[k]: chosen.pop(k) for k in renamed if k in chosen}
        yield Row(row.place, chosen | taken, size=row.size)
    if some and missing:
        missing -= _table_columns(files or [])  # a column of nothing but nulls is there, though no row shows it
    if some and missing:
        raise UserError(f"{where}: no row of {source.name} has a column {', '.join(sorted(missing))}")


def count(source: Source, where: str) -> int | None:
    """About how many rows a source has, where that is quick to know; None elsewhere."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = row_files(source.id, where)
    if files is None or any(file.suffix not in (".jsonl", ".parquet") for file in files):
        return None
    total = 0
    for file in files:
        if file.suffix == ".parquet":
            try:
                total += pq.read_metadata(file).num_rows
            except (pa.ArrowException, OSError):
                return None  # `read` tells what is wrong with it
        else:
            total += _lines(file)
    return total


def _lines(file: Path) -> int:
    with file.open("rb") as opened:
        return sum(piece.count(b"\n") for piece in iter(lambda: opened.read(2**20), b""))


def read_all(file: str, where: str) -> list[Row]:
    """All rows of a local file, none of them broken; raises UserError with the place of the first that is."""
    rows = list(read(Source(file), where))
    for row in rows:
        if row.content is None:
            raise UserError(f"{row.place}: {row.problem}")
    if not rows:
        raise UserError(f"{where}: {file} holds no row")
    return rows


def _file_rows(file: Path, where: str) -> Iterator[Row]:
    if file.suffix == ".jsonl":
        return _json_lines(file)
    if file.suffix == ".json":
        return _json_file(file, where)
    return _table_rows(file, where)


def _json_lines(file: Path) -> Iterator[Row]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            place = f"{file}:{number}"
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            if not line.strip():
                continue
            try:
                fields = json.loads(line.decode("utf-8"))
                if b"null" in line:
                    fields = without_nulls(fields, ARBITRARY)
            except UnicodeDecodeError as error:
                yield Row(place, None, f"not valid UTF-8 at byte {error.start} of the line")
                continue
            except json.JSONDecodeError as error:
                yield Row(place, None, f"not valid JSON at column {error.colno}: {error.msg}")
                continue
            except (ValueError, RecursionError) as error:
                yield Row(place, None, f"not usable JSON: {first_line(error)}")
                continue
            yield _object(place, fields, len(line))


def _object(place: str, fields: Any, size: int) -> Row:
    if isinstance(fields, dict):
        return Row(place, fields, size=size)
    return Row(place, None, f"expected a JSON object, found {type(fields).__name__}")


def _json_file(file: Path, where: str) -> Iterator[Row]:
    """Rows of a `.json` file: a list of objects, a mapping with such a list as `data`, or one object a line."""
    if _holds_lines(file):
        yield from _json_lines(file)
        return
    try:
        content = json.loads(file.read_bytes().decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"{where}: {file} is not valid UTF-8 at byte {error.start}") from None
    except RecursionError:
        raise UserError(f"{where}: {file} is nested too deeply to be rows") from None
    except json.JSONDecodeError as error:
        raise UserError(
            f"{where}: {file}:{error.lineno} is not valid JSON at column {error.colno}: {error.msg}"
        ) from None
    except ValueError as error:
        raise UserError(f"{where}: {file} is not usable JSON: {first_line(error)}") from None
    if isinstance(content, dict):
        content = next((content[k] for k in WRAPPERS if isinstance(content.get(k), list)), [content])
    if not isinstance(content, list):
        raise UserError(f"{where}: {file} holds no list of rows; expected a JSON list of objects, or one object a line")
    for number, fields in enumerate(content):
        yield _object(f"{file}:row {number}", without_nulls(fields, ARBITRARY), characters(fields))


def _holds_lines(file: Path) -> bool:
    """Whether a `.json` file is JSON lines by another name: two of its first lines are objects each. A bad line
    among them is then one bad row.
    """
    with file.open("rb") as opened:
        lines = [line for line in islice(opened, 20) if line.strip()]
    objects = 0
    for number, line in enumerate(lines):
        with contextlib.suppress(ValueError, RecursionError):
            objects += isinstance(json.loads(line.decode("utf-8-sig" if number == 0 else "utf-8")), dict)
    return objects >= 2


def _table_rows(file: Path, where: str) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(file).iter_batches(BATCH) if file.suffix == ".parquet" else _arrow_batches(file):
            for fields in _batch_rows(batch):
                place = f"{file}:row {number}"
                if isinstance(fields, str):
                    yield Row(place, None, fields)
                else:
                    yield Row(place, without_nulls(fields), size=characters(fields))
                number += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError, OverflowError) as error:
        raise UserError(f"{where}: {file} cannot be read as {file.suffix[1:]}: {first_line(error)}") from error


def _table_columns(files: list[Path]) -> set[str]:
    """The columns that Parquet and Arrow files declare."""
    import pyarrow.parquet as pq

    names: set[str] = set()
    for file in files:
        if file.suffix == ".parquet":
            names |= set(pq.read_schema(file).names)
        elif file.suffix == ".arrow":
            names |= {name for batch in islice(_arrow_batches(file), 1) for name in batch.schema.names}
    return names


def _batch_rows(batch: Any) -> list[dict[str, Any] | str]:
    """The rows of a record batch; in place of a row that cannot be read, what is wrong with it."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError:
        pass  # one row of the batch is at fault, and the others are to be kept
    rows: list[dict[str, Any] | str] = []
    for number in range(batch.num_rows):
        try:
            rows += batch.slice(number, 1).to_pylist()
        except UnicodeDecodeError as error:
            rows.append(f"not valid UTF-8 at byte {error.start} of a text")
    return rows


def _arrow_batches(file: Path) -> Iterator[Any]:
    """Batches of an Arrow file in either layout: the stream that `datasets` writes, or the file that others write."""
    import pyarrow as pa

    with pa.OSFile(str(file)) as opened:
        try:
            batches = pa.ipc.open_stream(opened)
        except pa.ArrowInvalid:
            opened.seek(0)
            reader = pa.ipc.open_file(opened)
            batches = (reader.get_batch(n) for n in range(reader.num_record_batches))
        for batch in batches:
            for start in range(0, batch.num_rows, BATCH):
                yield batch.slice(start, BATCH)


def _hub_rows(source: Source, where: str) -> Iterator[Row]:
    from datasets import load_dataset

    number = 0
    try:
        table = load_dataset(
            source.id,
            source.config,
            split=source.split,
            # The commit that the prepared folder is named by, so that rows and name cannot part.
            revision=hub_commit("dataset", source.id, source.revision),
            streaming=source.streaming,
        )
        for batch in table.iter(BATCH):
            for values in zip(*batch.values(), strict=True):
                fields = without_nulls(dict(zip(batch, values, strict=True)))
                yield Row(f"{source.name}:row {number}", fields, size=characters(fields))
                number += 1
    except Exception as error:
        reached = f" after row {number}" if number else ""
        raise UserError(
            f"{where}: dataset {source.name} cannot be loaded from the Hub{reached} ({type(error).__name__}: "
            f"{first_line(error)}); check id, config and split, or give a local file"
        ) from error


def without_nulls(value: Any, keep: tuple[str, ...] = ()) -> Any:
    """Drop keys whose value is None, at every depth but below the keys `keep`.

    Table formats add nulls to rows that never had them, and a null field of a JSON row means as little. Inside a call's
    arguments or a tool's schema a null of a JSON row is the author's.
    """
    if isinstance(value, dict):
        return {k: v if k in keep else without_nulls(v, keep) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(v, keep) for v in value]
    return value


def characters(value: Any) -> int:
    """The length of all text in a value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, dict):
        return sum(map(characters, value.values()))
    return sum(map(characters, value)) if isinstance(value, list) else 0


def drawn(rows: Iterable[Row], weight: float, seed: int, number: int, block: int = 1024) -> Iterator[tuple[Row, int]]:
    """Every row with how often it is taken: a seeded share `weight` of the rows in all.

    Above 1, every row is taken that many whole times and a share of them once more. The share is drawn without
    replacement inside blocks of rows, so a stream of unknown length can be drawn from; of n rows, round(share * n) are
    taken. The draw depends on the seed and the source's number in the mixture alone: the same rows on every machine,
    under every path and with every process count.
    """
    whole, part = divmod(weight, 1.0)
    rng = random.Random(f"{seed} {number}")
    passed = taken = 0
    for held in batched(rows, block):
        passed += len(held)
        share = round(part * passed) - taken
        taken += share
        once_more = set(rng.sample(range(len(held)), share))
        for number, row in enumerate(held):
            yield row, int(whole) + (number in once_more)


def batched(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of `size` items, the last one shorter."""
    rest = iter(items)
    while batch := list(islice(rest, size)):
        yield batch
