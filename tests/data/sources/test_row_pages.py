"""Pages of rows: the same rows wherever a page begins, and a large file that is entered in the middle."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from apo_soup.data.sources import row_pages
from apo_soup.data.sources.row_pages import RowPages
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError


def lines(numbers) -> str:
    return "".join(json.dumps({"n": n}) + "\n" for n in numbers)


def read(pages: RowPages, first: int, count: int) -> tuple[list[int], bool]:
    rows, more = pages.rows(first, count)
    return [row.fields["n"] for row in rows], more


@pytest.fixture(params=["jsonl", "jsonl.gz", "json", "csv", "parquet", "arrow"])
def sources(request, tmp_path):
    """Two files of 7 and 5 rows."""
    for name, numbers in (("a", range(7)), ("b", range(7, 12))):
        file, table = tmp_path / f"{name}.{request.param}", pa.table({"n": list(numbers)})
        match request.param:
            case "jsonl":
                file.write_text(lines(numbers))
            case "jsonl.gz":
                file.write_bytes(gzip.compress(lines(numbers).encode()))
            case "json":
                file.write_text(json.dumps([{"n": n} for n in numbers]))
            case "csv":
                file.write_text("n\n" + "".join(f"{n}\n" for n in numbers))
            case "parquet":
                pq.write_table(table, file, row_group_size=3)
            case "arrow":
                with pa.OSFile(str(file), "wb") as out, pa.ipc.new_stream(out, table.schema) as stream:
                    stream.write_table(table)
    return Source(str(tmp_path / f"*.{request.param}"))


@pytest.mark.parametrize("count", [1, 3, 7, 12, 20])
def test_every_page_holds_the_rows_of_its_numbers(sources, count):
    forward, numbers = RowPages(sources, "x"), list(range(12))
    for first in range(0, 14, count):
        want = numbers[first : first + count]
        for pages in (forward, RowPages(sources, "x")):  # one that came by, and one that begins there
            found, more = read(pages, first, count)
            assert [int(n) for n in found] == want
            assert more == (first + count < 12)
    found, _ = read(forward, 2, 2)
    assert [int(n) for n in found] == [2, 3]


def test_a_page_reads_what_it_shows_of_a_large_file(tmp_path, monkeypatch):
    """Behind a page the next one begins at its byte; nothing before it is read, and nothing after it."""
    file = tmp_path / "rows.jsonl"
    file.write_text(lines(range(100_000)))
    pages, read_bytes = RowPages(Source(str(file)), "x"), []
    lengths = row_pages.RowPages._lines

    def counted(self, name, byte, count):
        found = lengths(self, name, byte, count)
        read_bytes.append((byte, found[1]))
        return found

    monkeypatch.setattr(row_pages.RowPages, "_lines", counted)
    assert read(pages, 50_000, 10)[0] == list(range(50_000, 50_010))
    read_bytes.clear()
    assert read(pages, 50_010, 10)[0] == list(range(50_010, 50_020))
    (place,) = read_bytes
    assert place == (len(lines(range(50_010))), len(lines(range(50_010, 50_020))))
    assert pages.rows(50_000, 1)[0][0].place == f"{file}:50001"


def test_bad_and_blank_lines_and_ones_without_an_end_are_where_they_stand(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text('\ufeff{"n": 0}\n\n{"n": \n{"n": 3}')
    pages = RowPages(Source(str(file)), "x")
    rows, more = pages.rows(0, 3)
    assert [(row.place.rpartition(":")[2], row.content) for row in rows] == [("1", {"n": 0}), ("3", None)]
    assert "expected a JSON object" in rows[1].problem
    assert more
    assert read(pages, 3, 3) == ([3], False)


def test_a_file_that_changes_is_read_anew(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_text(lines(range(30)))
    pages = RowPages(Source(str(file)), "x")
    assert read(pages, 10, 2) == ([10, 11], True)
    file.write_text(lines(range(1000, 1013)))
    assert read(pages, 10, 2) == ([1010, 1011], True)
    file.unlink()
    with pytest.raises(UserError, match=r"x: expected a data file, got .*which is not there"):
        pages.rows(0, 1)
    file.write_text("")
    assert pages.rows(0, 5) == ([], False)


def test_a_number_behind_all_bytes_is_answered_without_reading(tmp_path, monkeypatch):
    """As any address may ask for it."""
    for name in "ab":
        (tmp_path / f"{name}.jsonl").write_text(lines(range(3)))
    pages = RowPages(Source(str(tmp_path / "*.jsonl")), "x")
    assert pages.rows(6, 10) == ([], False)
    monkeypatch.setattr(row_pages.RowPages, "_lines", lambda *_: pytest.fail("it reads"))
    assert pages.rows(10**11, 10) == ([], False)
