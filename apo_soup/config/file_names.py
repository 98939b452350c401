"""Texts that can name a file or an id, and those that cannot; and what a file holds by its name."""

from pathlib import Path, PurePath

from apo_soup.config.in_words import as_written

# Bytes that a file system takes for the name of a file.
LONGEST_FILE_NAME = 255
TEXT_KINDS = (".csv", ".json", ".jsonl", ".tsv")
# Other names of a kind.
_SAME_KIND = {".ndjson": ".jsonl"}
TABLE_KINDS = (".arrow", ".parquet")
COMPRESSED = (".bz2", ".gz", ".xz", ".zst")


def file_name_fault(written: str) -> str | None:
    """Why a text is neither a path nor an id, as the rest of a sentence; None where it may be one.

    >>> file_name_fault("a/b") is None
    True
    >>> file_name_fault("a" * 300)
    'expected a path or an id, got 300 characters, which no file can be called; correct it'
    """
    long = any(len(part.encode(errors="replace")) > LONGEST_FILE_NAME for part in PurePath(written).parts)
    if not long and not any(character in written for character in "\n\r\0"):
        return None
    what = f"{len(written):,} characters" if long else as_written(written)
    return f"expected a path or an id, got {what}, which no file can be called; correct it"


def row_kind(file: Path) -> str | None:
    """What a file of rows holds, as the suffix of such a file; None where it can be none.

    >>> row_kind(Path("rows.JSONL")), row_kind(Path("rows.csv.gz")), row_kind(Path("rows.parquet.gz"))
    ('.jsonl', '.csv', None)
    >>> row_kind(Path("rows.ndjson"))
    '.jsonl'
    """
    lower = (suffix.lower() for suffix in file.suffixes[-2:])
    suffixes = [_SAME_KIND.get(suffix, suffix) for suffix in lower] or [""]
    if suffixes[-1] in COMPRESSED:
        return suffixes[0] if len(suffixes) == 2 and suffixes[0] in TEXT_KINDS else None
    return suffixes[-1] if suffixes[-1] in (*TEXT_KINDS, *TABLE_KINDS) else None


def has_rows_by_line(file: Path) -> bool:
    """Whether a file is plain text with a row on each line, so that it can be entered at any of them."""
    return row_kind(file) == ".jsonl" and file.suffix.lower() not in COMPRESSED
