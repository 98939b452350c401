"""Tokens of spans of characters, against their definition and the tokenizer's own word."""

import copy
import json

import numpy as np
import pytest
from conftest import CHATML
from data_helpers import options, trained_ids
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from apo_soup.data.char_to_token import CharToToken, crosses, token_ranges
from apo_soup.data.conversations.formats import formats_of
from apo_soup.data.documents import RowToEncode
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.data.sources.rows import SourceRow
from apo_soup.data.sources.source import Source
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


@pytest.mark.parametrize("byte_level", [True, False])
@pytest.mark.parametrize("special_tokens_in_text", ["refuse", "escape"])
def test_an_end_of_turn_that_takes_a_line_break_along_is_trained(tokenizer, byte_level, special_tokens_in_text):
    """Phi-3's tokens around turns take the white space behind them along."""
    stripping = copy.deepcopy(tokenizer)
    stripping.chat_template = CHATML
    content = json.loads(stripping.backend_tokenizer.to_str())
    for token in content["added_tokens"]:
        token["rstrip"] = token["content"] in ("<|im_start|>", "<|im_end|>")
    stripping = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)), eos_token="<|im_end|>", chat_template=CHATML
    )
    assert stripping("<|im_end|>\n").input_ids == stripping("<|im_end|>").input_ids
    asked = "<|im_start|> What?" if special_tokens_in_text == "escape" else "What?"
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": "That."}]
    encoder = SupervisedEncoder(
        stripping, options(assistant_only_loss=True, special_tokens_in_text=special_tokens_in_text)
    )
    if not byte_level:
        encoder.char_to_token.byte_lengths = None
    row = RowToEncode(
        Source("s"), SourceRow("s:1", {"messages": turns * 2}), formats_of(pairs=False)[0], 1, checked=True
    )
    (result,) = encoder([row]).results
    ids, ranges = result.parts[0]
    assert stripping.decode(trained_ids(ids, ranges)) == "That.<|im_end|>That.<|im_end|>"
