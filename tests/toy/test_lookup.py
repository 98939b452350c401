"""Notes hidden in filler: answerable, as long as asked for, as deep as asked for; talk; what the base model reads."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apo_soup.toy import lookup, prose, talk


@given(st.integers(0, 1000), st.integers(60, 800))
def test_a_lookup_can_be_answered_from_its_context(seed, tokens):
    item = lookup.random_lookup(random.Random(seed), tokens, 4)
    assert item.context.count(f"note {item.key} {item.value} .") == 1
    assert item.answer == f"found {item.key} {item.value}"


@pytest.mark.parametrize("tokens", [128, 256, 768])
def test_lookups_have_the_length_asked_for(tokens, tokenizer):
    lengths = [len(tokenizer(lookup.random_lookup(random.Random(s), tokens).question).input_ids) for s in range(30)]
    assert abs(sum(lengths) / 30 - tokens) < 0.05 * tokens


def test_depth_places_the_note(tokenizer):
    every = [
        lookup.lookups_at_depths(lookup.context_lookups(random.Random(s), 400), (0.0, 0.5, 1.0)) for s in range(40)
    ]
    assert all(len({item.key for item in found}) == 3 for found in every)
    depths = [[item.depth for item in found] for found in zip(*every, strict=True)]
    means = [sum(d) / len(d) for d in depths]
    assert means[0] < 0.25 < 0.4 < means[1] < 0.6 < 0.75 < means[2]


def test_base_text_never_shows_a_trace_or_a_two_digit_sum():
    rng = random.Random(0)
    for _ in range(300):
        text = "".join(t for t, _ in prose.sums_document(rng, 8))
        for line in text.strip().splitlines():
            left = line.split(" = ")[0]
            assert not (left.count("+") == 1 and all(len(n) == 2 for n in left.split(" + ")))


def test_both_manners_of_a_talk_name_the_person():
    for seed in range(50):
        item = talk.random_talk(random.Random(seed))
        person = item.user.split("I am ")[1].split(",")[0]
        assert person in item.kind
        assert person in item.curt
        assert item.kind != item.curt
