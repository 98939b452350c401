"""Tokens of spans of characters, against their definition and the tokenizer's own word."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from apo_soup.data.char_to_token import CharToToken, crosses, token_ranges
from apo_soup.models.tokenizer import encode


@given(st.lists(st.text(max_size=40), min_size=1, max_size=4), st.booleans(), st.data())
@settings(max_examples=200)
def test_tokens_found_from_byte_lengths_are_those_the_tokenizer_names(tokenizer, texts, odd, data):
    """Also where a character of several bytes is several tokens: none that is half outside a span is in its range. And
    whatever stands before and behind a text in its batch, one whose bytes do not add up included.
    """
    encodings = encode(tokenizer, texts)
    rows = []
    for text, encoding in zip(texts, encodings, strict=True):
        cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
        spans = list(zip(cuts[::2], cuts[1::2], strict=False))
        rows.append((text, np.array(encoding.ids, dtype=np.int32), spans))
    if odd:
        rows.insert(len(rows) // 2, ("other words" * 40, rows[0][1], [(0, 5), (6, 11)]))
    mapping = CharToToken(tokenizer)
    of_rows = mapping.ranges_of(rows)
    found = [[r for r in ranges if r[0] < r[1]] for ranges, _ in of_rows]
    alone = [[r for r in mapping.token_ranges(*row) if r[0] < r[1]] for row in rows]
    mapping.byte_lengths = None
    named = [[r for r in mapping.token_ranges(*row) if r[0] < r[1]] for row in rows]
    assert found == alone == named
    assert [crossed for _, crossed in of_rows] == [mapping.ranges_of([row])[0][1] for row in rows]


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
    borders = {border for span in spans for border in span}
    assert crosses(offsets, spans) == any(a < border < b for a, b in offsets for border in borders)
