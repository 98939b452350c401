"""Chunks hold every row of a source once, in order, and each knows how many it holds without its rows being read."""

import codecs
import gzip
import json
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apo_soup.data.conversations.formats import formats_of
from apo_soup.data.reading import source_portions
from apo_soup.data.sources import chunks
from apo_soup.data.sources.chunks import Chunk, chunk_rows, line_ranges, source_chunks
from apo_soup.data.sources.json_rows import json_line_rows
from apo_soup.data.sources.mixture import MixtureSource
from apo_soup.data.sources.read import read_rows
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError

LINES = st.sampled_from([b'{"text": "a"}', b'{"text": "longer than others"}', b"", b" \t", b"\r", b"{", b"3", b"\xff"])


@settings(max_examples=120, deadline=None)
@given(
    st.lists(LINES, max_size=12), st.sampled_from([b"\n", b"\r\n"]), st.booleans(), st.booleans(), st.integers(1, 40)
)
def test_line_ranges_hold_every_row_once(tmp_path_factory, lines, end, marked, ended, size):
    content = (codecs.BOM_UTF8 if marked else b"") + end.join(lines) + (end if ended else b"")
    file = tmp_path_factory.mktemp("lines") / "rows.jsonl"
    file.write_bytes(content)
    with file.open("rb") as opened:
        parts = list(line_ranges(opened, size))
    found = [list(json_line_rows(file, "here", part=part)) for part, _ in parts]
    assert list(map(len, found)) == [count for _, count in parts]
    assert list(chain.from_iterable(found)) == list(json_line_rows(file, "here"))


def rows_of(source):
    return [row for chunk in source_chunks(source, "here") for row in chunk_rows(chunk, source, "here")]


def portions_of(source):
    entry = MixtureSource(0, source, iter(()), formats_of(pairs=False)[0])
    return list(source_portions(entry, source_chunks(source, "here"), "here", 0))


def test_files_of_all_kinds_give_the_rows_that_reading_them_gives(tmp_path, monkeypatch):
    monkeypatch.setattr(chunks, "BYTES_A_CHUNK", 64)
    rows = [{"text": f"row {n}"} for n in range(50)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "a.jsonl").write_text(lines)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "c.parquet", row_group_size=20)
    (tmp_path / "d.json").write_text(json.dumps(rows))
    source = Source(str(tmp_path / "*"))
    assert rows_of(source) == list(read_rows(source, "here"))
    found = source_chunks(source, "here")
    assert [(c.file.name, c.rows) for c in found if c.file.suffix == ".parquet"] == [
        ("c.parquet", n) for n in (20, 20, 10)
    ]
    assert [c.file.name for c in found if not c.divided] == ["b.jsonl.gz", "d.json"]
    assert sum(c.file.name == "a.jsonl" for c in found) > 10
    later = [portion.chunk.file.name for portion in portions_of(source) if not portion.first]
    assert later == ["c.parquet"] * 3 + ["d.json"], "behind rows without a number"


def test_the_first_rows_that_are_checked_may_lie_in_many_chunks(tmp_path):
    table = pa.Table.from_pylist([{"text": f"row {n}"} for n in range(400)])
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema) as written:
        for part in (table[:0], table[:150], table[150:300], table[300:]):
            written.write_table(part)
    groups = portions_of(Source(str(tmp_path / "a.parquet")))
    assert [(p.chunk.rows, p.first) for p in groups] == [(0, True), (150, True), (150, True), (100, False)]
    (tmp_path / "b.jsonl").write_text(("x" * 399_999 + "\n") * 4)
    lines = portions_of(Source(str(tmp_path / "b.jsonl")))
    assert [(p.chunk.rows, p.first) for p in lines] == [(3, True), (1, False)]


def test_a_part_is_drawn_of_a_whole_source_where_rows_cannot_be_counted(tmp_path):
    (tmp_path / "a.csv").write_text("text\nx\n")
    assert source_chunks(Source(str(tmp_path / "a.csv"), weight=0.5), "here") == [Chunk()]
    assert source_chunks(Source(str(tmp_path / "a.csv"), weight=2.0), "here") == [Chunk(tmp_path / "a.csv", size=7)]


@pytest.mark.parametrize("content", ['{"text": "a"}\n\n', '{"text": "a"}\n' * 3])
def test_a_file_that_changed_since_it_was_divided_is_told(tmp_path, content):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "a"}\n' * 2)
    source = Source(str(file))
    (chunk,) = source_chunks(source, "x.yaml:3")
    file.write_text(content)
    if len(content) > chunk.part.end:  # the range ends where it did
        assert len(list(chunk_rows(chunk, source, "x.yaml:3"))) == 2
        return
    with pytest.raises(UserError, match=r"x\.yaml:3: .*a\.jsonl: expected a file that stays, got one that changed"):
        list(chunk_rows(chunk, source, "x.yaml:3"))
