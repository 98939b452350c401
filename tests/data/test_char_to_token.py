"""Tokens of spans of characters, against their definition and the tokenizer's own word."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from apo_soup.data.char_to_token import CharToToken, token_ranges
from apo_soup.models.tokenizer import encode


@given(st.text(max_size=60), st.data())
@settings(max_examples=200)
def test_tokens_found_from_byte_lengths_are_those_the_tokenizer_names(tokenizer, text, data):
    """Also where a character of several bytes is several tokens: none that is half outside a span is in its range."""
    encoding = encode(tokenizer, [text])[0]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    mapping = CharToToken(tokenizer)
    found = mapping.token_ranges(text, np.array(encoding.ids, dtype=np.int32), spans)
    mapping.byte_lengths = None
    assert [r for r in found if r[0] < r[1]] == [
        r for r in mapping.token_ranges(text, np.array(encoding.ids), spans) if r[0] < r[1]
    ]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=30), st.data())
def test_token_ranges_hold_exactly_the_tokens_inside(gaps, data):
    """Against the definition, over random token offsets with gaps and random spans."""
    offsets, place = [], 0
    for gap, length in gaps:
        offsets.append((place + gap, place + gap + length))
        place += gap + length
    cuts = sorted(data.draw(st.lists(st.integers(0, place + 2), max_size=6)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    for (start, end), (first, last) in zip(spans, token_ranges(offsets, spans), strict=True):
        inside = [i for i, (a, b) in enumerate(offsets) if a >= start and b <= end]
        assert list(range(first, last)) == inside
