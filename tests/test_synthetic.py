"""The small world: right traces, splits that share nothing, single-token words, the shipped base."""

import json
import random

import pytest
from helpers import ROOT
from hypothesis import given
from hypothesis import strategies as st

from apo_soup.toy import lookup, problems, prose, talk
from apo_soup.toy.build import MAKERS, build
from apo_soup.toy.splits import SPLITS, split_of
from apo_soup.toy.words import ADJECTIVES, ANIMALS, KEYS, PLACES, VALUES, VERBS
from apo_soup.verify.answers import number as right


def test_an_addition_written_out_by_hand():
    problem = problems.addition(47, 38)
    assert problem.question == "What is 47 + 38?"
    assert problem.trace == "is 47 + 38\n7 + 8 = 15\n4 + 3 + 1 = 8"
    assert problem.answer == "85"


def test_a_walk_written_out_by_hand():
    problem = problems.walk(3, (4, -5, 9))
    assert problem.question == "Start at 3 then lamp + 4 boat - 5 door + 9?"
    assert problem.trace == "3 lamp + 4 = 7\n7 boat - 5 = 2\n2 door + 9 = 11"
    assert problem.answer == "11"


@given(st.integers(0, 10_000), st.sampled_from(problems.FAMILIES), st.sampled_from(list(SPLITS)))
def test_every_line_of_a_trace_is_true(seed, family, split):
    problem = problems.draw(random.Random(seed), family, split)
    assert problem.split == split
    for line in problem.trace.splitlines()[family == "add" :]:
        left, result = line.split(" = ")
        tokens = [t for t in left.split() if t not in problems.PLACES]
        total = int(tokens[0])
        for sign, number in zip(tokens[1::2], tokens[2::2], strict=True):
            total += int(number) if sign == "+" else -int(number)
        assert total == int(result)
    assert right(f"<think>\n{problem.trace}\n</think>\n{problem.answer}", problem.answer)
    assert not right(f"<think>\n{problem.answer}\n</think>\n{int(problem.answer) + 1}", problem.answer)


@given(st.text(max_size=30))
def test_every_identity_has_one_split(identity):
    assert split_of(identity) in SPLITS


def test_files_of_different_splits_share_no_problem(tmp_path):
    counts = dict.fromkeys(MAKERS, 150)
    written = build(tmp_path, 0, counts)
    assert set(written) == set(counts)
    asked: dict[str, set[str]] = {}
    for name in MAKERS:
        for line in (tmp_path / f"{name}.jsonl").read_text().splitlines():
            row = json.loads(line)
            messages = row.get("messages") or row["prompt"]
            question = messages[0]["content"].removeprefix("Use the tool: ")
            asked.setdefault(MAKERS[name][1], set()).add(question)
    assert not asked["train"] & asked["heldout"]
    assert not asked["train"] & asked["preference"]
    assert not asked["preference"] & asked["heldout"]


def test_the_same_seed_writes_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        build(tmp_path / folder, 5, dict.fromkeys(MAKERS, 20))
    for name in MAKERS:
        assert (tmp_path / "a" / f"{name}.jsonl").read_bytes() == (tmp_path / "b" / f"{name}.jsonl").read_bytes()


def test_words_are_single_tokens_and_digits_stand_alone(tokenizer):
    for word in KEYS + VALUES + ADJECTIVES + ANIMALS + VERBS + PLACES:
        assert len(tokenizer(f" {word}").input_ids) == 1, word
    assert tokenizer.tokenize("123") == ["1", "2", "3"]
    assert len(set(KEYS)) == len(KEYS)
    assert len(set(VALUES)) == len(VALUES)


@given(st.integers(0, 1000), st.integers(60, 800))
def test_a_lookup_can_be_answered_from_its_context(seed, tokens):
    item = lookup.draw(random.Random(seed), tokens, 4)
    assert item.context.count(f"note {item.key} {item.value} .") == 1
    assert item.answer == f"found {item.key} {item.value}"


@pytest.mark.parametrize("tokens", [128, 256, 768])
def test_lookups_have_the_length_asked_for(tokens, tokenizer):
    lengths = [len(tokenizer(lookup.draw(random.Random(s), tokens).question).input_ids) for s in range(30)]
    assert abs(sum(lengths) / 30 - tokens) < 0.05 * tokens


def test_depth_places_the_note(tokenizer):
    every = [lookup.at_depths(lookup.draw_all(random.Random(s), 400), (0.0, 0.5, 1.0)) for s in range(40)]
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
        item = talk.draw(random.Random(seed))
        person = item.user.split("I am ")[1].split(",")[0]
        assert person in item.kind
        assert person in item.curt
        assert item.kind != item.curt


def test_the_shipped_base_is_small_whole_and_smollm3():
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = ROOT / "recipes" / "tiny" / "base"
    assert sum(f.stat().st_size for f in folder.iterdir()) < 4 * 2**20
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.model_type == "smollm3"
    assert model.config.no_rope_layers == [1, 1, 1, 0]
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    assert model.config.tie_word_embeddings
    assert model.dtype.is_floating_point
    assert (
        AutoTokenizer.from_pretrained(folder).chat_template
        == (ROOT / "apo_soup/templates/chat_template.jinja").read_text()
    )
