"""Which tokens lie inside a span of characters.

A tokenizer can say where its tokens came from, but keeping track costs it a third of its speed. A byte-level one
(GPT-2, Llama 3, Qwen, SmolLM) need not: its tokens are the bytes of the text cut into pieces, so their lengths say
where each begins. Any other tokenizer, and any text whose bytes do not add up, is asked.
"""

import json
from bisect import bisect_left

import numpy as np
from transformers import PreTrainedTokenizerBase

from apo_soup.data.rendering.template import Span
from apo_soup.models.tokenizer import encode


class CharToToken:
    """Finds the tokens of character spans for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self.byte_lengths = token_byte_lengths(tokenizer)

    def token_ranges(self, text: str, ids: np.ndarray, spans: list[Span]) -> list[Span]:
        """The tokens `[first, last)` wholly inside each span of characters of `text`, whose tokens are `ids` `[S]`."""
        if self.byte_lengths is not None:
            ends = self.byte_lengths[ids].cumsum()
            positions = byte_positions(text, [character for span in spans for character in span])
            if not len(ends) or ends[-1] == positions[-1]:
                # A token begins where the one before it ends, the first one at 0; it ends at or before a position where
                # it ends before the next one. So one search finds both.
                starts, stops = positions[:-1:2], [stop + 1 for stop in positions[1:-1:2]]
                tokens = ends.searchsorted(starts + stops).tolist()
                first = [k + 1 if start else 0 for k, start in zip(tokens, starts, strict=False)]
                return [(a, b if b > a else a) for a, b in zip(first, tokens[len(starts) :], strict=True)]
        return token_ranges(encode(self.tokenizer, [text])[0].offsets, spans)


def token_byte_lengths(tokenizer: PreTrainedTokenizerBase) -> np.ndarray | None:
    """How many bytes of text each token id stands for, `[vocabulary]`; None for a tokenizer that is not byte-level."""
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    decoder = backend["decoder"] or {}
    kinds = [decoder.get("type"), *(d["type"] for d in decoder.get("decoders", []))]
    if backend["normalizer"] is not None or "ByteLevel" not in kinds:
        return None
    vocabulary = tokenizer.get_vocab()
    lengths = np.zeros(max(vocabulary.values()) + 1, dtype=np.int64)
    for token, token_id in vocabulary.items():
        lengths[token_id] = len(token)  # the byte-level alphabet has a character for every byte
    for token_id, added in tokenizer.added_tokens_decoder.items():
        lengths[token_id] = len(added.content.encode())
    return lengths


def byte_positions(text: str, characters: list[int]) -> list[int]:
    """Character positions of `text`, ascending, as byte positions in UTF-8; behind them the text's length in bytes."""
    if text.isascii():
        return [*characters, len(text)]
    positions, before, passed = [], 0, 0
    for character in [*characters, len(text)]:
        passed += len(text[before:character].encode("utf-8", "surrogatepass"))
        positions.append(passed)
        before = character
    return positions


def token_ranges(offsets: list[Span], spans: list[Span]) -> list[Span]:
    """The tokens `[first, last)` that lie wholly inside each span of characters.

    Args:
        offsets: characters `[start, end)` of every token, ascending.
        spans: characters; a token that reaches over the end of a span is not in its range.
    """
    ranges = []
    for start, end in spans:
        first = bisect_left(offsets, (start,))
        last = bisect_left(offsets, (end,))
        while last > first and offsets[last - 1][1] > end:
            last -= 1
        ranges.append((first, last))
    return ranges
