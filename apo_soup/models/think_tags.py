"""The tags around a model's reasoning."""

THINKING = "<think>"
END_OF_THINKING = "</think>"


def opens_thinking(text: str) -> bool:
    """Whether a prompt ends by opening a think block."""
    return text.rstrip().endswith(THINKING)
