"""Which models cannot attend to each document of a packed row by itself, by their configuration, without torch."""

from typing import Any

from apo_soup.models.positions import rope_by_length

# Layers that see so many tokens back: kind -> the name of the number.
WINDOWS = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}


def documents_reason(text: Any, longest: int | None) -> str | None:
    """Why a model cannot attend to each document by itself, in a few words, or None.

    Args:
        text: the configuration of its language model.
        longest: tokens of a document at most; None for any number.
    """
    kinds = set(getattr(text, "layer_types", None) or ()) - {"full_attention"}
    if kinds - set(WINDOWS):
        return f"{', '.join(sorted(kinds - set(WINDOWS)))} layers"
    for kind, name in WINDOWS.items():
        window = getattr(text, name, None)
        everywhere = not getattr(text, "layer_types", None) and getattr(text, "use_sliding_window", True)
        if window and (kind in kinds or everywhere) and (longest is None or window < longest):
            return f"{name} {window:,}, and documents may be longer"
    rope = rope_by_length(text)
    return f"{rope} positions, which depend on the longest of a batch" if rope else None
