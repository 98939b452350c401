"""Pairs as ids: cut, dropped, counted, and held to their mode."""

import json
import re

import numpy as np
import pytest
from conftest import CHATML
from data_helpers import CALL, dropped_rows, options, prepared
from helpers import preference
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import program

from apo_soup.data.conversations.formats import formats_of, recognise
from apo_soup.data.documents import Document, RowToEncode
from apo_soup.data.encode_pairs import PairEncoder, pair_ids
from apo_soup.data.sources.rows import RowError, SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.data.text_cuts import TextCuts

# The end of turn of the small world's tokenizer.
END = 2


def arrays(ids: list[list[int]]) -> list[np.ndarray]:
    return [np.array(part, dtype=np.int32) for part in ids]


def test_pairs_are_deduplicated_cut_and_dropped_too(training_recipe):
    pairs = [preference(f"Q{n}", f"good {n}", f"bad {n}") for n in range(8)]
    long = preference("Q", "good " * 200, "bad " * 200)
    path = training_recipe([*pairs, pairs[3], long], name="apo")
    folder, splits, stats = prepared(path, "--dataset_mixture.deduplicate", "exact")
    assert (stats["total"]["kept"], stats["total"]["duplicate"]) == (9, 1)
    assert stats["total"]["lost"] > 100
    assert max(len(r["prompt_ids"]) + len(r["chosen_ids"]) for r in splits["train"]) == 128
    assert [len(r["prompt_ids"]) + len(r["chosen_ids"]) for r in splits["train"] if r["truncated"]] == [128]
    _, splits, stats = prepared(path, "--overflow", "drop")
    assert (stats["total"]["kept"], stats["total"]["long"]) == (9, 1)
    refused = program("-m", "apo_soup", "prepare", "--config", path, "--overflow", "split")
    assert refused.returncode == 2
    assert "expected truncate or drop, since a pair cannot be split, got split" in refused.stderr
    assert "duplicate" in dropped_rows(folder)[0]["kind"]


def test_pairs_count_their_reasoning(training_recipe, tokenizer):
    thought = "<think>\nlong and good\n</think>\n"
    rows = [preference(f"Q {n}?", f"{thought}yes", f"{thought}no", True) for n in range(5)]
    _, splits, stats = prepared(training_recipe(rows, name="apo"))
    row = next(r for r in stats["sources"] if r["mode"] == "think")
    assert 0 < row["reasoning"] < row["trained"]
    answers = [pair_[side] for pair_ in splits["train"] for side in ("chosen_ids", "rejected_ids")]
    assert row["trained"] == sum(map(len, answers))
    texts = [tokenizer.decode(ids).partition("</think>")[2] for ids in answers]
    assert row["trained"] - row["reasoning"] == sum(
        len(tokenizer(t, add_special_tokens=False).input_ids) for t in texts
    )


@pytest.mark.parametrize(
    ("think", "chosen", "rejected", "reason"),
    [
        (False, "fine", "<think>\nhm\n</think>\nbad", "field rejected: expected no reasoning in a no-think pair, got"),
        (True, "fine", "bad", "field chosen: expected reasoning in a think pair, got none"),
        (
            True,
            "<think>\na\n</think>\nfine <think> open",
            "bad",
            "field chosen: expected </think>, got a think block that is never closed",
        ),
    ],
)
def test_every_pair_is_held_to_its_mode(training_recipe, think, chosen, rejected, reason):
    good = ("<think>\na\n</think>\nyes", "<think>\na\n</think>\nno") if think else ("yes", "no")
    rows = [preference(f"Q{n}", *good, think) for n in range(210)] + [preference("Q", chosen, rejected, think)]
    folder, _, stats = prepared(training_recipe(rows, name="apo"), "--max_reject_share", "0.5")
    assert (stats["total"]["kept"], stats["total"]["rejected"]) == (210, 1)
    assert re.search(reason, json.loads((folder / "rejects.jsonl").read_text())["reason"])


@pytest.mark.parametrize(
    ("ids", "reason"),
    [
        ([[], [5], [6]], "field prompt: expected tokens, got none"),
        ([[5, 6], [5, 7], [5, 6, 8]], "field chosen: expected the prompt's tokens before the answer's"),
        ([[5, 6], [5, 6, 7], [5, 9, 7]], "field rejected: expected the prompt's tokens before the answer's"),
        ([[5, 6], [5, 6, 7], [5, 6]], "field rejected: expected an answer, got no tokens"),
        ([[5, 6], [5, 6, 7, END, 8], [5, 6, 7, END]], "expected different answers, got the same tokens"),
    ],
)
def test_ids_that_are_no_pair_are_refused(ids, reason, tokenizer):
    with pytest.raises(RowError, match=reason):
        pair_ids(arrays(ids), tokenizer)


def test_answers_end_with_their_end_of_turn(tokenizer):
    found = pair_ids(arrays([[5], [5, 7, END, 9], [5, 8]]), tokenizer)
    assert [part.tolist() for part in found] == [[5], [7, END], [8]]


def test_an_end_that_the_template_writes_behind_the_last_turn_is_none_of_the_answers(tokenizer, use):
    """As Phi-3's does; an end inside, with words behind it, is a part's."""
    assert tokenizer.eos_token_id == END
    line, word = tokenizer.encode("\n", add_special_tokens=False), tokenizer.encode("yes", add_special_tokens=False)
    chosen, rejected = [5, *word, END, *line, END, *line], [5, *word, END, *word, END, END]
    _, *answers = pair_ids(arrays([[5], chosen, rejected]), tokenizer)
    assert [part.tolist() for part in answers] == [[*word, END], [*word, END, *word, END]]
    ends_again = CHATML.replace(
        "{%- if add_generation_prompt -%}",
        "{%- if not add_generation_prompt -%}<|im_end|>{%- endif -%}{%- if add_generation_prompt -%}",
    )
    assert ends_again != CHATML
    use(ends_again)
    row = preference("Q", "good", "bad")
    task = RowToEncode(Source("row"), SourceRow("row:1", row), recognise(row, formats_of(True)), 1, False)
    (document,) = PairEncoder(tokenizer, options(pairs=True))([task]).results
    assert [tokenizer.decode(part.tolist()) for part in document.parts[0][1:]] == ["good<|im_end|>", "bad<|im_end|>"]


def test_every_reason_says_what_to_do(tokenizer):
    for ids in ([[], [5], [6]], [[5, 6], [5, 7], [5]], [[5], [5], [5, 6]], [[5], [5, 6], [5, 6]]):
        with pytest.raises(RowError, match=r"^fields? .*: expected .*, got .*; \w+"):
            pair_ids(arrays(ids), tokenizer)


@pytest.mark.parametrize(
    ("prompt", "chosen", "fault"),
    [
        ([], {"content": "y", "tool_calls": [CALL]}, "field chosen: expected all of a tool call in what"),
        (
            [],
            {"content": "y", "reasoning_content": "deep"},
            "field chosen: expected reasoning_content in what the chat template writes, got none",
        ),
        ([{"role": "system", "content": "Be brief."}], {"content": "y"}, "expected the text of a system turn in"),
    ],
)
def test_what_a_template_leaves_out_of_a_pair_is_named(tokenizer, use, prompt, chosen, fault):
    use(CHATML.replace("in messages", "in messages if message.role != 'system'"))
    row = {
        "prompt": [*prompt, {"role": "user", "content": "q"}],
        "chosen": [{"role": "assistant", **chosen}],
        "rejected": [{"role": "assistant", "content": "n"}],
    }
    encoder = PairEncoder(tokenizer, options(pairs=True))
    shape = recognise(row, formats_of(pairs=True))
    (result,) = encoder([RowToEncode(Source("s"), SourceRow("s:1", row), shape, 1, checked=False)]).results
    assert fault in result.reason


ODD = st.one_of(
    st.text(max_size=12),
    st.sampled_from(["\n\nx", " x", "\tx", "e\u0301", "\U0001f600", "<|im_", "x \n", "\u00a0x", "</think", "12"]),
    st.sampled_from(["<|im_start|>assistant\n", "<|endoftext|>", "<think>", "x<|im_end|>"]),
)


@pytest.mark.parametrize("policy", ["refuse", "escape", "allow"])
@settings(max_examples=60)
@given(
    prompt=st.lists(ODD, min_size=3, max_size=3), answers=st.tuples(ODD, ODD), think=st.booleans(), long=st.booleans()
)
def test_a_prompt_that_is_tokenised_once_has_the_tokens_of_the_whole(both_ways, policy, prompt, answers, think, long):
    turns = [
        {"role": role, "content": f"{text}?"} for role, text in zip(("user", "assistant", "user"), prompt, strict=True)
    ]
    thought = "<think>\nhm\n</think>\n" if think else ""
    good, bad = (f"{thought}{text}{end}" for text, end in zip(answers, (" yes", " no"), strict=True))
    row = preference("", good, bad, think) | {"prompt": turns if long else turns[:1]}
    once, whole = (of_pair(encoder, row) for encoder in both_ways[policy])
    assert once == whole


@pytest.fixture(scope="module")
def both_ways(tokenizer):
    """By policy, an encoder as it is, and one that tokenises each text as a whole."""
    made = {}
    for policy in ("refuse", "escape", "allow"):
        made[policy] = [PairEncoder(tokenizer, options(pairs=True, special_tokens_in_text=policy)) for _ in range(2)]
        made[policy][1].text_cuts = TextCuts(tokenizer, byte_level=False)
    return made


def of_pair(encoder: PairEncoder, row: dict) -> tuple:
    """What becomes of a pair: its ids and counts, or the reason."""
    shape = recognise(row, formats_of(pairs=True))
    (result,) = encoder([RowToEncode(Source("s"), SourceRow("s:1", row), shape, 1, checked=False)]).results
    if not isinstance(result, Document):
        return result.kind, result.reason
    return [part.tolist() for part in result.parts[0]], result.trained, result.reasoning, result.lost


def test_a_prompt_is_tokenised_once(both_ways):
    row = preference("What is it?", "This.", "That.")
    encoder, whole = both_ways["refuse"]
    shape = recognise(row, formats_of(pairs=True))
    (once, thrice) = (
        e.render([RowToEncode(Source("s"), SourceRow("s:1", row), shape, 1, checked=False)]).rests
        for e in (encoder, whole)
    )
    assert sum("What is it?" in text for text in once) == 1
    assert sum("What is it?" in text for text in thrice) == 3
