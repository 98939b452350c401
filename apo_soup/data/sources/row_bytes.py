"""The bytes of a file of rows, decompressed as they are read, and what is told of those that are no text in UTF-8."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from apo_soup.errors import UserError, first_line


def _to_utf8(iconv: str, python: str) -> str:
    """Ways to have a text in UTF-8, by its encoding's names."""
    return (
        f"convert the file: with iconv -f {iconv} -t UTF-8, by saving it as CSV UTF-8 in Excel, or in Python, which "
        f"reads it with open(FILE, encoding='{python}')"
    )


# How files that are no text begin, and what to do with each.
BEGINNINGS = (
    (b"\x1f\x8b", "gzip data", "let its name end in .gz"),
    (b"\x28\xb5\x2f\xfd", "Zstandard data", "let its name end in .zst"),
    (b"BZh", "bzip2 data", "let its name end in .bz2"),
    (b"\xfd7zXZ\x00", "xz data", "let its name end in .xz"),
    (b"PK\x03\x04", "a zip archive", "unpack it"),
    (b"PAR1", "a Parquet file", "let its name end in .parquet"),
    (b"ARROW1", "an Arrow file", "let its name end in .arrow"),
    (b"\xff\xfe\x00\x00", "UTF-32", _to_utf8("UTF-32", "utf-32")),
    (b"\xff\xfe", "UTF-16", _to_utf8("UTF-16", "utf-16")),
    (b"\xfe\xff", "UTF-16", _to_utf8("UTF-16", "utf-16")),
)
NOT_UTF8 = _to_utf8("WINDOWS-1252", "cp1252")


@contextmanager
def opened_rows(file: Path, where: str) -> Iterator[BinaryIO]:
    """A file's bytes, decompressed where its name ends in .gz, .zst, .bz2 or .xz.

    Raises:
        UserError: it cannot be read, is no text in UTF-8, or its compressed data break off or are damaged; this also
            where the body of the `with` reads on.
    """
    import pyarrow as pa

    raw: Any = None
    opened: io.BufferedReader | None = None
    try:
        raw = pa.OSFile(str(file)) if file.suffix.lower() == ".zst" else file.open("rb")
        opened = _decompressed(raw, file.suffix.lower())
        _check_beginning(opened.peek(6)[:6], file, where)
        yield cast(BinaryIO, opened)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, pa.ArrowException) as error:
        raise _damaged(file, raw, where, error) from error
    except OSError as error:
        if error.errno is None:  # a decompressor's own complaint
            raise _damaged(file, raw, where, error) from error
        raise UserError(
            f"{where}: {file}: expected a file that can be read, got {error.strerror}; check its permissions"
        ) from error
    finally:
        for stream in (opened, raw):
            if stream is not None:
                stream.close()


def _decompressed(raw: Any, suffix: str) -> io.BufferedReader:
    if suffix == ".gz":
        return io.BufferedReader(cast(Any, gzip.GzipFile(fileobj=raw)))
    if suffix == ".bz2":
        return io.BufferedReader(cast(Any, bz2.BZ2File(raw)))
    if suffix == ".xz":
        return io.BufferedReader(cast(Any, lzma.LZMAFile(raw)))
    if suffix == ".zst":
        import pyarrow as pa

        return io.BufferedReader(cast(Any, pa.CompressedInputStream(raw, "zstd")))
    return cast(io.BufferedReader, raw)


def _check_beginning(first: bytes, file: Path, where: str) -> None:
    for beginning, what, cure in BEGINNINGS:
        if first.startswith(beginning):
            raise UserError(f"{where}: {file}: expected text in UTF-8, got {what}; {cure}")
    if b"\x00" in first[:4]:
        order = "BE" if first[:1] == b"\x00" else "LE"
        cure = _to_utf8(f"UTF-16{order}", f"utf-16-{order.lower()}")
        told = "expected text in UTF-8, got zero bytes at its beginning, as in UTF-16"
        raise UserError(f"{where}: {file}: {told}; {cure}")


def _damaged(file: Path, raw: Any, where: str, error: Exception) -> UserError:
    kind = file.suffix.lower().removeprefix(".")
    about = f"near byte {raw.tell():,} of {file.stat().st_size:,}"
    return UserError(
        f"{where}: {file}: expected a whole file of {kind} data, got one that breaks off or is damaged {about} "
        f"({first_line(error)}); write or download it again"
    )
