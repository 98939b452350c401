"""Compressed files, cut and damaged ones, and files that are no text in UTF-8."""

import bz2
import gzip
import json
import lzma
from pathlib import Path

import pytest
from data_helpers import ROWS

from apo_soup.data.sources.chunks import count_rows
from apo_soup.data.sources.read import read_rows
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError


def zstandard(data: bytes) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


COMPRESS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard}
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()


def rows_of(file: Path) -> list:
    return [row.fields for row in read_rows(Source(str(file)), "sft.yaml:3")]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_files_read_as_plain_ones(suffix, tmp_path):
    contents = {
        "r.jsonl": LINES,
        "r.json": json.dumps(ROWS).encode(),
        "lines.json": LINES,
        "bom.jsonl": b"\xef\xbb\xbf" + LINES,
    }
    for name, content in contents.items():
        file = tmp_path / f"{name}.{suffix}"
        file.write_bytes(COMPRESS[suffix](content))
        assert rows_of(file) == ROWS, name
    file = tmp_path / f"two.jsonl.{suffix.upper()}"
    file.write_bytes(COMPRESS[suffix](LINES) * 2)  # as several compressed files written behind one another
    assert rows_of(file) == ROWS * 2
    for name, separator in (("r.csv", ","), ("r.tsv", "\t")):
        file = tmp_path / f"{name}.{suffix}"
        file.write_bytes(COMPRESS[suffix](f"prompt{separator}completion\nq{separator}a\n".encode()))
        assert rows_of(file) == [{"prompt": "q", "completion": "a"}]
    assert rows_of(tmp_path / f"*.csv.{suffix}") == [{"prompt": "q", "completion": "a"}]
    assert count_rows(Source(str(file)), "x") is None


@pytest.mark.parametrize("suffix", COMPRESS)
def test_a_cut_or_damaged_file_is_one_sentence_that_says_about_where(suffix, tmp_path):
    whole = COMPRESS[suffix](b"".join(b'{"text": "%x"}\n' % (n * 7919**5) for n in range(20_000)))
    half = len(whole) // 2
    for content in (whole[:half], b"no such data", whole[:4] + whole[half:]):
        file = tmp_path / f"r.jsonl.{suffix}"
        file.write_bytes(content)
        told = rf"sft.yaml:3: .*r.jsonl.{suffix}: expected a whole file of {suffix} data, got one that breaks off or is"
        with pytest.raises(UserError, match=rf"{told} damaged near byte [\d,]+ of {len(content):,} .*; write or down"):
            rows_of(file)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            LINES.decode().encode("utf-16"),
            "got UTF-16; convert the file: with iconv -f UTF-16 -t UTF-8, by saving it as CSV UTF-8 in Excel, or",
        ),
        (
            LINES.decode().encode("utf-16be"),
            "got zero bytes at its beginning, as in UTF-16; .* iconv -f UTF-16BE -t UTF-8",
        ),
        (LINES.decode().encode("utf-16le"), r"got zero bytes .*; .* open\(FILE, encoding='utf-16-le'\)"),
        (LINES.decode().encode("utf-32"), "got UTF-32; convert the file"),
        (gzip.compress(LINES), "got gzip data; let its name end in .gz"),
        (zstandard(LINES), "got Zstandard data; let its name end in .zst"),
        (b"PK\x03\x04rest", "got a zip archive; unpack it"),
        (b"PAR1rest", "got a Parquet file; let its name end in .parquet"),
    ],
)
def test_a_file_that_is_no_text_says_what_it_is(content, reason, tmp_path):
    for name in ("r.jsonl", "r.json"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"expected text in UTF-8, {reason}"):
            rows_of(tmp_path / name)


def test_a_file_in_latin_1_says_how_to_convert_it(tmp_path):
    file = tmp_path / "r.jsonl"
    file.write_bytes('{"text": "caf\u00e9"}\n{"text": "tea"}\n'.encode("latin-1"))
    bad, good = read_rows(Source(str(file)), "x")
    assert bad.problem == (
        "expected UTF-8, got another encoding at byte 13 of the line; "
        "convert the file: with iconv -f WINDOWS-1252 -t UTF-8, by saving it as CSV UTF-8 in Excel, or in Python, "
        "which reads it with open(FILE, encoding='cp1252')"
    )
    assert good.content == {"text": "tea"}


def test_a_file_that_cannot_be_opened_is_one_sentence(tmp_path):
    from apo_soup.data.sources.json_rows import json_line_rows

    with pytest.raises(
        UserError, match=r"x: .*gone.jsonl: expected a file that can be read, got No such file or direc"
    ):
        list(json_line_rows(tmp_path / "gone.jsonl", "x"))
