"""Where a text may be cut so that its parts have the tokens of the whole."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerFast

from apo_soup.data.text_cuts import TextCuts
from apo_soup.models.tokenizer import encode


def with_added(tokenizer, *tokens: AddedToken, **pre_tokenizer) -> PreTrainedTokenizerFast:
    """A copy of a tokenizer with more added tokens, and another byte-level pre-tokenizer."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    content["pre_tokenizer"]["pretokenizers"][-1] |= pre_tokenizer
    copy = Tokenizer.from_str(json.dumps(content))
    copy.add_special_tokens(list(tokens))
    return PreTrainedTokenizerFast(tokenizer_object=copy, eos_token="<|im_end|>")


@pytest.mark.parametrize(
    ("added", "lost"),
    [
        (AddedToken("<|im_end|>\n", special=True), {"<|im_end|>"}),  # the longer one would be found in its place
        (AddedToken("\n<|im_", special=True), {"<|im_end|>", "<|im_start|>"}),
        (AddedToken("d|>x", special=True), {"<|im_end|>"}),
        (AddedToken("|im_end|", special=True), {"<|im_end|>"}),
        (AddedToken("<|end|>", special=True, rstrip=True), set()),
        (AddedToken("<|end|>", special=True, lstrip=True), set()),
        (AddedToken("word", special=True, single_word=True), set()),
        (AddedToken("aba", special=True), set()),  # overlaps itself
    ],
)
def test_a_token_is_no_cut_where_another_may_take_a_part_of_it(tokenizer, added, lost):
    usual = TextCuts(tokenizer, byte_level=True).tokens
    assert {"<|im_end|>", "<|im_start|>", "<think>"} < usual
    assert TextCuts(with_added(tokenizer, added), byte_level=True).tokens == usual - lost


def test_a_tokenizer_that_is_not_byte_level_has_no_cuts(tokenizer):
    cuts = TextCuts(tokenizer, byte_level=False)
    assert (cuts.tokens, cuts.last("a<|im_end|>b")) == (frozenset(), 0)


def test_the_last_cut_is_behind_the_last_token(tokenizer):
    cuts = TextCuts(tokenizer, byte_level=True)
    assert cuts.last("a<|im_end|>\n<|im_start|>assistant\n") == len("a<|im_end|>\n<|im_start|>")
    assert cuts.last("no token |im_end|> at all") == 0


PIECE = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["<|im_end|>", "<|im_start|>", "<|im_", "end|>", "\n", "  ", " <think>", "ab", "x"]),
)


@pytest.fixture(scope="module", params=[False, True])
def odd(tokenizer, request):
    """A tokenizer with a token that takes white space along, with and without a space before every text."""
    token = AddedToken("ab", special=True, lstrip=True, rstrip=True)
    made = with_added(tokenizer, token, add_prefix_space=request.param)
    return made, TextCuts(made, byte_level=True)


@settings(max_examples=120)
@given(pieces=st.lists(PIECE, max_size=8))
def test_the_parts_have_the_tokens_of_the_whole(odd, pieces):
    (tokenizer, cuts), text = odd, "".join(pieces)
    cut = cuts.last(text)
    head, tail = (encoding.ids for encoding in encode(tokenizer, [text[:cut], text[cut:]]))
    assert head + tail == encode(tokenizer, [text])[0].ids
