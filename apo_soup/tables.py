"""Tables in plain text, and text that is safe to show."""

import re

# Control characters move a terminal's cursor and are no XML; half a surrogate pair cannot be written at all.
_UNPRINTABLE = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\u2028\\u2029\\ud800-\\udfff\\ufffe\\uffff]")


def printable(text: object) -> str:
    r"""A value's text with the sign for unreadable characters in the place of those that control something.

    >>> printable("a\x1b[31m\ud800\tb")
    'a\ufffd[31m\ufffd\tb'
    """
    return _UNPRINTABLE.sub("\ufffd", str(text))


def text_table(header: list[str], rows: list[list[str]]) -> str:
    """A header, a rule and the rows in plain text, columns as wide as their widest cell."""
    cells = [[printable(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def size_text(count: float) -> str:
    """A number of bytes as people read it.

    >>> size_text(999), size_text(1_234_567), size_text(12_300_000_000)
    ('999 B', '1.2 MB', '12.3 GB')
    """
    size, unit = count, "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
