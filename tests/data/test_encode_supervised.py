"""Which tokens carry loss, and what overflow and packing make of long rows."""

import pytest
from data_helpers import ROWS, documents_of, options, prepared, trained_ids
from helpers import chat
from hypothesis import given, settings
from hypothesis import strategies as st

from apo_soup.data.conversations.conversation import parse_conversation
from apo_soup.data.encode_supervised import loss_fault, pieces_within_max_length, spans_with_loss
from apo_soup.data.trained_ranges import IGNORED, labels_of


def spans_of(use, row, **changes):
    text, spans = spans_with_loss(parse_conversation(row, {}), use(None), options(**changes))
    return [text[a:b] for a, b in spans]


def test_the_recipe_decides_between_answers_completion_and_all(use):
    row = {"prompt": [*chat("One?", "1")["messages"], {"role": "user", "content": "Two?"}], "completion": "2"}
    assert spans_of(use, row) == ["2<|im_end|>"]
    assert spans_of(use, row, assistant_only_loss=True) == ["2<|im_end|>"]
    both = spans_of(use, row, assistant_only_loss=True, completion_only_loss=False)
    assert both == ["1<|im_end|>", "2<|im_end|>"]
    assert len(spans_of(use, row, completion_only_loss=False)[0]) > 60
    whole = spans_of(use, chat("One?", "1"))
    assert whole[0].startswith("<|im_start|>system")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        (
            {"completion_only_loss": True},
            "field completion: expected one, as completion_only_loss is true, got a row wit",
        ),
        ({"completion_only_loss": True, "assistant_only_loss": True}, None),
        ({"train_on": "last_turn"}, "expected a row of which answers alone are trained, as train_on is last_turn, got"),
        ({"train_on": "unroll", "assistant_only_loss": True}, None),
    ],
)
def test_a_recipe_that_asks_for_what_a_row_lacks_is_told(changes, fault):
    """TRL trains all of a row without a completion, also where it is asked for completions alone."""
    found = loss_fault(parse_conversation(chat("One?", "1"), {}), options(**changes))
    assert (found is None) == (fault is None)
    assert (fault or "") in (found or "")
    completed = parse_conversation({"prompt": "One?", "completion": "1"}, {})
    assert loss_fault(completed, options(**changes)) is None


@pytest.mark.parametrize("overflow", ["truncate", "drop", "split"])
def test_overflow_is_counted_and_the_rest_is_whole(training_recipe, tokenizer, overflow):
    long = chat("Count.", "one two three four five " * 40, False)
    _, splits, stats = prepared(training_recipe([*ROWS[:20], long], overflow=overflow, max_length=96))
    whole = tokenizer.apply_chat_template(long["messages"], enable_thinking=False, tokenize=False).rstrip("\n")
    count = len(tokenizer(whole, add_special_tokens=False).input_ids)
    found = documents_of(splits["train"])
    total = stats["total"]
    if overflow == "truncate":
        assert (total["lost"], total["kept"], total["long"]) == (pytest.approx(count - 96, abs=1), 21, 0)
    elif overflow == "drop":
        assert (total["lost"], total["kept"], total["long"]) == (pytest.approx(count, abs=1), 20, 1)
    else:
        assert (total["lost"], total["kept"], total["long"]) == (0, 21, 0)
        assert len(found) > 21
    assert max(map(len, found)) <= 96


@pytest.mark.parametrize("think", [True, False])
def test_a_truncated_answer_is_trained_up_to_the_cut(training_recipe, tokenizer, think):
    thought = "<think>\nhm\n</think>\n" if think else ""
    answer = thought + "one two three four five " * 40
    _, splits, _ = prepared(training_recipe([*ROWS[:3], chat("Count.", answer, think)], max_length=96))
    (cut,) = [row for row in splits["train"] if "one two" in tokenizer.decode(row["input_ids"])]
    start = sum(cut["seq_lengths"][: cut["seq_lengths"].index(96)])
    ranges = zip(cut["trained_ranges"][::2], cut["trained_ranges"][1::2], strict=True)
    ((first, last),) = [(a, b) for a, b in ranges if start <= a < start + 96]
    trained = tokenizer.decode(cut["input_ids"][first:last])
    assert answer.startswith(trained)
    assert len(trained) > 100
    assert last == start + 96, "from its first word to the cut"


@settings(max_examples=60)
@given(st.integers(1, 50), st.integers(2, 20), st.sampled_from(["truncate", "drop", "split"]))
def test_overflow_keeps_order_and_counts_what_is_lost(length, limit, overflow):
    changes = options(max_length=limit, overflow=overflow)
    pieces, lost = pieces_within_max_length(length, [(0, length)], changes)
    kept = [place for start, end in pieces for place in range(start, end)]
    assert kept == list(range(length - lost))
    # A last piece of one token predicts nothing and would be a sequence without a loss.
    alone = int(length > limit and length % limit == 1)
    assert lost == {"truncate": max(0, length - limit), "drop": length * (length > limit), "split": alone}[overflow]
    assert all(end - start <= limit for start, end in pieces)


def test_wrapped_sequences_without_a_trained_token_are_kept_back_and_counted(training_recipe):
    rows = [chat("so " * 400, "Yes", False) for _ in range(10)]
    _, splits, stats = prepared(training_recipe(rows, packing_strategy="wrapped", max_length=64))
    trained = [trained_ids(row["input_ids"], row["trained_ranges"]) for row in splits["train"]]
    assert all(trained)
    packed = stats["packed"]
    assert packed["trained"] == sum(map(len, trained))
    assert packed["tokens"] + packed["untrained"] == stats["total"]["tokens"]
    assert packed["untrained"] > packed["tokens"]


def test_wrapped_documents_carry_no_label_over_their_start(training_recipe):
    """Each stretch of a sequence begins anew, so its first token has nothing before it to be foreseen from."""
    _, splits, _ = prepared(training_recipe(ROWS, packing_strategy="wrapped", max_length=13))
    starts = 0
    for row in splits["train"]:
        assert sum(row["seq_lengths"]) == len(row["input_ids"]) <= 13
        place = 0
        for length in row["seq_lengths"]:
            assert labels_of(row["input_ids"], row["trained_ranges"])[place] == IGNORED
            starts += 1
            place += length
    assert starts > len(ROWS), "some documents were cut"


def test_reasoning_is_counted_where_a_long_prompt_is_split_off(training_recipe, tokenizer):
    rows = [chat("word " * 60, "<think>\nso it is\n</think>\nA", True)]
    _, _, stats = prepared(training_recipe(rows, overflow="split", max_length=48))
    (source,) = (s for s in stats["sources"] if s["kept"])
    assert 0 < source["reasoning"] < source["trained"]
