"""A shared beginning is tokenised as the whole text is."""

from hypothesis import given, settings
from hypothesis import strategies as st

from apo_soup.data.prefix_cache import PrefixCache
from apo_soup.data.text_cuts import TextCuts
from apo_soup.models.tokenizer import encode


@given(
    st.text(max_size=40),
    st.text(max_size=40),
    st.sampled_from(["", "<|im_end|>", " <|im_end|>\n", "\n\n<|im_end|> <think>"]),
)
@settings(max_examples=200)
def test_a_shared_beginning_is_tokenised_as_the_whole_text_is(tokenizer, head, rest, middle):
    cache = PrefixCache(tokenizer, TextCuts(tokenizer, byte_level=True))
    text = f"{head}{middle}{rest}"
    assert cache.split(text) == (None, text), "the first time nothing is known"
    known, left = cache.split(text)
    assert (known is None) == ("<|im_end|>" not in text)
    tokens = (known or []) + encode(tokenizer, [left])[0].ids
    assert tokens == encode(tokenizer, [text])[0].ids
