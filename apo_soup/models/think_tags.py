"""The tags around a model's reasoning."""

import re

THINKING = "<think>"
END_OF_THINKING = "</think>"


# A block without reasoning in front of an answer.
_EMPTY_BLOCK = re.compile(rf"\s*{THINKING}\s*{END_OF_THINKING}\s*")
# The same tags as other models write them: Magistral, Seed-OSS, Kimi, and Gemini behind OpenAI's schema.
_OTHER_TAGS = (
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("<thought>", "</thought>"),
)


def in_common_tags(text: str) -> str:
    """An answer whose reasoning, in front, stands between another model's tags, with the common ones in their place.

    >>> in_common_tags("[THINK]2 + 2[/THINK]4"), in_common_tags("write [THINK] first")
    ('<think>2 + 2</think>4', 'write [THINK] first')
    """
    begun = text.lstrip()
    for opening, closing in _OTHER_TAGS:
        if begun.startswith(opening):
            return text.replace(opening, THINKING, 1).replace(closing, END_OF_THINKING, 1)
    return text


def without_empty_block(text: str) -> str:
    r"""An answer without the empty block that some models, asked not to think, write in front of it.

    >>> without_empty_block("<think>\n\n</think>\n\n4"), without_empty_block("<think>2</think>4")
    ('4', '<think>2</think>4')
    """
    found = _EMPTY_BLOCK.match(text)
    return text[found.end() :] if found else text


def opens_thinking(text: str) -> bool:
    """Whether a prompt ends by opening a think block."""
    return text.rstrip().endswith(THINKING)
