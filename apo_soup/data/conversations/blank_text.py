"""Texts without a character that anybody sees."""

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


def is_blank(text: str) -> bool:
    """Whether a text is empty, or nothing but spaces and invisible characters."""
    return not text.strip(UNSEEN)
