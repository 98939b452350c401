"""Texts without a character that anybody sees."""

import re
import string

# Spaces, and the characters of no width that web pages leave in texts.
UNSEEN = string.whitespace + "".join(
    map(
        chr,
        (
            *range(0x1C, 0x20), 0x85, 0xA0, 0xAD, 0x115F, 0x1160, 0x1680, 0x180E, *range(0x2000, 0x2010),
            *range(0x2028, 0x2030), 0x205F, *range(0x2060, 0x2070), 0x2800, 0x3000, 0x3164, 0xFE0F, 0xFEFF, 0xFFA0,
        ),
    )
)  # fmt: skip


# The same and the rest of what Unicode has without a shape of its own: joiners, variation selectors, tags, marks of
# direction and of fields.
NO_SHAPE = re.compile(
    f"[{re.escape(UNSEEN)}"
    "\\x00-\\x1f\\x7f-\\x9f\\u034f\\u061c\\u17b4\\u17b5\\u180b-\\u180f\\ufe00-\\ufe0f\\ufff9-\\ufffb"
    "\\U0001d173-\\U0001d17a\\U000e0000-\\U000e0fff]+"
)


def visible(text: str) -> str:
    r"""The characters of a text that somebody sees.

    >>> visible("a\u200b b\ufe0f\n")
    'ab'
    """
    return NO_SHAPE.sub("", text)


def is_blank(text: str) -> bool:
    """Whether a text is empty, or nothing but spaces and invisible characters."""
    return not text or NO_SHAPE.fullmatch(text) is not None
