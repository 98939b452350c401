"""Which tokens lie inside a span of characters.

A tokenizer can say where its tokens came from, but keeping track costs it a third of its speed. A byte-level one
(GPT-2, Llama 3, Qwen, SmolLM) need not: its tokens are the bytes of the text cut into pieces, so their lengths say
where each begins. Any other tokenizer, and any text whose bytes do not add up, is asked.
"""

import json
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from transformers import PreTrainedTokenizerBase

from apo_soup.data.documents import Array
from apo_soup.data.rendering.template import Span
from apo_soup.models.tokenizer import encode


class CharToToken:
    """Finds the tokens of character spans for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase):
        self.tokenizer = tokenizer
        self.byte_lengths = token_byte_lengths(tokenizer)
        self.taking_space = taking_space(tokenizer)

    def token_ranges(self, text: str, ids: Array, spans: list[Span]) -> list[Span]:
        """The tokens `[first, last)` wholly inside each span of characters of `text`, whose tokens are `ids` `[S]`."""
        return self.ranges_of([(text, ids, spans)])[0][0]

    def ranges_of(self, rows: Sequence[tuple[str, Array, list[Span]]]) -> list[tuple[list[Span], bool]]:
        """As `token_ranges`, for many rows of text, ids `[S]` and spans, with one search in the tokens of all; and of
        each row whether a token reaches over the border of a span.
        """
        if self.byte_lengths is None or not rows:
            return [self._asked(text, spans) for text, _, spans in rows]
        ends = self.byte_lengths[np.concatenate([ids for _, ids, _ in rows])].cumsum()
        row_ends = np.cumsum([len(ids) for _, ids, _ in rows])
        # Byte and token that each row begins at; behind them those that the last one ends at.
        row_bytes = [0, *np.concatenate(([0], ends))[row_ends].tolist()]
        row_tokens = [0, *row_ends.tolist()]
        wanted: list[int] = []
        places: list[list[int] | None] = []
        for (text, _, spans), base, end in zip(rows, row_bytes, row_bytes[1:], strict=False):
            *positions, size = byte_positions(text, [character for span in spans for character in span])
            added_up = size == end - base
            places.append(positions if added_up else None)
            if added_up:
                # A token begins where the one before it ends; it ends at or before a position where it ends before the
                # next one. So one search finds both.
                wanted += [base + place + number % 2 for number, place in enumerate(positions)]
        at = ends.searchsorted(wanted)
        # Whether a token ends where a span begins, and where it ends; none does before the first byte.
        odd = np.arange(len(at)) % 2
        borders = np.append(ends, -1)[at - odd] == np.array(wanted, dtype=np.int64) - odd
        tokens, clean = iter(at.tolist()), iter(borders.tolist())
        found = []
        for (text, _, spans), known, first, last in zip(rows, places, row_tokens, row_tokens[1:], strict=False):
            if known is None:
                found.append(self._asked(text, spans))
                continue
            ranges, crossed = [], False
            for start, stop, before, behind in zip(known[::2], known[1::2], tokens, tokens, strict=False):
                a = before + 1 - first if start else 0
                ranges.append((a, max(a, min(behind, last) - first)))
                begins, ends_there = next(clean), next(clean)
                crossed |= not ((begins or not start) and (ends_there or not stop))
            found.append((ranges, crossed))
        return found

    def _asked(self, text: str, spans: list[Span]) -> tuple[list[Span], bool]:
        """The tokens inside the spans of one text, as the tokenizer itself says."""
        if not spans:
            return [], False
        encoding = encode(self.tokenizer, [text])[0]
        offsets = own_offsets(text, encoding.ids, encoding.offsets, self.taking_space)
        return token_ranges(offsets, spans), crosses(offsets, spans)


def taking_space(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """The ids of added tokens that take the white space beside them along, as those around Phi-3's turns do."""
    added = tokenizer.added_tokens_decoder.items()
    return frozenset(number for number, token in added if token.lstrip or token.rstrip)


def own_offsets(text: str, ids: Sequence[int] | Array, offsets: list[Span], taking: frozenset[int]) -> list[Span]:
    """The characters `[start, end)` of every token of a text, without the white space that those of `taking` took
    along: an end of turn that takes the next line break is still the end of its turn.

    Args:
        ids: the tokens `[S]`.
        offsets: the characters of each, as the tokenizer tells them.
        taking: ids of tokens that take white space along.
    """
    if taking.isdisjoint(ids):
        return offsets
    own = []
    for number, (start, end) in zip(ids, offsets, strict=True):
        if number in taking:
            inside = text[start:end]
            start += len(inside) - len(inside.lstrip())
            end -= len(inside) - len(inside.rstrip())
        own.append((start, end))
    return own


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


def crosses(offsets: list[Span], spans: list[Span]) -> bool:
    """Whether a token reaches over the border of a span; arguments as those of `token_ranges`.

    >>> crosses([(0, 2), (2, 5)], [(2, 5)]), crosses([(0, 3), (3, 5)], [(2, 5)]), crosses([(0, 2), (2, 6)], [(2, 5)])
    (False, True, True)
    """
    for border in (border for span in spans for border in span):
        behind = bisect_left(offsets, (border,))
        if behind and offsets[behind - 1][1] > border:
            return True
    return False
