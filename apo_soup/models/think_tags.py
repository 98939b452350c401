"""The tags around a model's reasoning."""

THINKING = "<think>"
END_OF_THINKING = "</think>"


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


def opens_thinking(text: str) -> bool:
    """Whether a prompt ends by opening a think block."""
    return text.rstrip().endswith(THINKING)
