"""Which of the assistant's turns are trained: all, the last, or each in a sample of its own."""

import pytest
from conftest import QWEN3_LIKE
from data_helpers import options, prepared, trained_ids
from helpers import chat

from apo_soup.data.conversations.formats import Format
from apo_soup.data.documents import Document, Refused, RowToEncode
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.data.sources.rows import SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.data.statistics_table import statistics_table


def reasoned(*thoughts: str) -> dict:
    """A conversation of an answer for each thought, which stands in a key of its own."""
    row: dict = {"messages": []}
    for number, thought in enumerate(thoughts, 1):
        row["messages"] += chat(f"Question {number}?", f"Answer {number}.")["messages"]
        row["messages"][-1]["reasoning_content"] = thought
    return row


def trained(tokenizer, row: dict, train_on: str, **changes) -> tuple[list[str], list[str], Document | Refused]:
    """Texts and trained texts of the documents that a row becomes."""
    encoder = SupervisedEncoder(tokenizer, options(assistant_only_loss=True, train_on=train_on, **changes))
    shape = Format("messages", ("messages",), lambda fields: fields)
    (result,) = encoder([RowToEncode(Source("rows"), SourceRow("rows:1", row), shape, 1, checked=True)]).results
    parts = result.parts if isinstance(result, Document) else []
    texts = [tokenizer.decode(ids) for ids, _ in parts]
    return texts, [tokenizer.decode(trained_ids(*part)) for part in parts], result


def think(thought: str, answer: str) -> str:
    return f"<think>\n{thought}\n</think>\n\n{answer}<|im_end|>"


def test_unroll_trains_every_answer_with_its_own_reasoning_as_it_is_asked(tokenizer, use):
    renderer = use(QWEN3_LIKE)
    row = {"messages": []}
    for number in (1, 2, 3):
        row["messages"] += chat(f"Question {number}?", f"<think>\nThought {number}.\n</think>\n\nAnswer {number}.")[
            "messages"
        ]
    texts, words, result = trained(tokenizer, row, "unroll")
    assert words == [think(f"Thought {n}.", f"Answer {n}.") for n in (1, 2, 3)]
    for number, text in enumerate(texts):
        assert text.startswith(renderer.prompt(row["messages"][: 2 * number + 1], {}) + "<think>")
    assert (result.samples, result.shortened) == (3, 0)
    assert result.tokens == sum(len(ids) for ids, _ in result.parts)
    assert result.trained == sum(len(trained_ids(*part)) for part in result.parts)


def test_all_turns_trains_what_is_left_and_counts_what_is_not(tokenizer, use):
    use(QWEN3_LIKE)
    answers = [chat(f"Q{n}?", f"<think>\nThought {n}.\n</think>\n\nAnswer {n}.")["messages"] for n in (1, 2, 3)]
    row = {"messages": [turn for pair in answers for turn in pair]}
    _, words, result = trained(tokenizer, row, "all_turns")
    assert words == ["Answer 1.<|im_end|>Answer 2.<|im_end|>" + think("Thought 3.", "Answer 3.")]
    assert (result.samples, result.shortened) == (1, 2)
    _, words, result = trained(tokenizer, row, "last_turn")
    assert words == [think("Thought 3.", "Answer 3.")]


@pytest.mark.parametrize("train_on", ["all_turns", "unroll"])
def test_a_thought_in_a_key_of_its_own_is_read_in_every_turn(tokenizer, train_on):
    """Our own template keeps the reasoning of the history."""
    _, words, result = trained(tokenizer, reasoned("One.", "Two."), train_on)
    assert all(thought in "".join(words) for thought in ("One.", "Two."))
    assert (len(words), result.shortened) == ((1, 0) if train_on == "all_turns" else (2, 0))


def test_turns_that_flags_mask_have_no_sample(tokenizer):
    row = reasoned("One.", "Two.", "Three.")
    row["messages"][3]["weight"] = 0
    _, words, _ = trained(tokenizer, row, "unroll")
    assert [("One." in w, "Two." in w, "Three." in w) for w in words] == [(True, False, False), (False, False, True)]
    row["messages"][5]["weight"] = 0
    assert len(trained(tokenizer, row, "unroll")[1]) == 1
    assert "One." in trained(tokenizer, row, "last_turn")[1][0]


def test_a_sample_that_is_too_long_is_lost_and_the_others_stay(tokenizer):
    row = reasoned("One.", "so " * 200)
    _, words, result = trained(tokenizer, row, "unroll", overflow="drop", max_length=150)
    assert (len(words), "One." in words[0], result.lost > 150) == (1, True, True)
    _, _, result = trained(tokenizer, row, "unroll", overflow="drop", max_length=20)
    assert isinstance(result, Refused)
    assert (result.kind, result.lost > 170) == ("long", True)


def test_a_sample_at_fault_makes_the_row_one(tokenizer, use):
    use(QWEN3_LIKE)
    row = {
        "messages": [
            *chat("Q1?", "a <|im_start|> b")["messages"],
            *chat("Q2?", "<think>\nhm\n</think>\n\nA.")["messages"],
        ]
    }
    shape = Format("messages", ("messages",), lambda fields: fields)
    encoder = SupervisedEncoder(tokenizer, options(assistant_only_loss=True, train_on="unroll"))
    (result,) = encoder([RowToEncode(Source("rows"), SourceRow("rows:1", row), shape, 1, checked=False)]).results
    assert isinstance(result, Refused)
    assert "got the control token <|im_start|> in it" in result.reason


def test_a_plain_answer_beside_one_with_reasoning_is_trained_too(tokenizer, use):
    """A row with reasoning has not lost it, though one of its answers, such as that to a tool's result, has none."""
    use(QWEN3_LIKE)
    row = {"messages": [*chat("Q1?", "Plain.")["messages"], *chat("Q2?", "<think>\nhm\n</think>\n\nA.")["messages"]]}
    shape = Format("messages", ("messages",), lambda fields: fields)
    for train_on, samples in (("unroll", 2), ("last_turn", 1), ("all_turns", 1)):
        encoder = SupervisedEncoder(tokenizer, options(assistant_only_loss=True, train_on=train_on))
        (result,) = encoder([RowToEncode(Source("rows"), SourceRow("rows:1", row), shape, 1, checked=True)]).results
        assert (result.mode, result.samples) == ("think", samples)


def test_statistics_count_samples_of_rows(training_recipe):
    path = training_recipe([reasoned("One.", "Two."), reasoned("Three.")] * 4, train_on="unroll", max_length=512)
    _, splits, stats = prepared(path)
    assert (stats["total"]["kept"], stats["total"]["samples"]) == (8, 12)
    assert sum(len(lengths) for lengths in splits["train"]["seq_lengths"]) == 12
    assert "\n12 samples of these rows, one an answer" in statistics_table(stats)


def test_statistics_say_what_history_leaves_out(training_recipe):
    row = {"messages": [t for n in "12" for t in chat(f"Q{n}?", f"<think>\nT{n}.\n</think>\n\nA{n}.")["messages"]]}
    _, _, stats = prepared(training_recipe([row] * 5, chat_template=QWEN3_LIKE, max_length=512))
    assert (stats["total"]["shortened"], stats["total"]["shortened_turns"]) == (5, 5)
    assert "leaves out the reasoning of 5 earlier answers in 5 rows; train_on: unroll trains" in statistics_table(stats)


def test_the_key_needs_the_assistants_turns(training_recipe):
    from apo_soup.config.load import load
    from apo_soup.errors import UserError

    keys = {"train_on": "unroll", "assistant_only_loss": False}
    with pytest.raises(UserError, match="train_on is unroll, got one that is trained as a whole; write assistant_only"):
        prepared(training_recipe([reasoned("One.")], **keys))
    path = training_recipe([reasoned("One.")], **keys, completion_only_loss=False)
    with pytest.raises(UserError, match="train_on: expected assistant_only_loss: true beside it, got completion_only"):
        load(path, "sft", [])


def test_preview_shows_every_sample(training_recipe, tokenizer, capsys):
    from apo_soup.config.load import load
    from apo_soup.data.preview import preview_mixture

    path = training_recipe([reasoned("One.", "Two.")], train_on="unroll", max_length=512)
    preview_mixture(load(path, "sft", []), tokenizer, 1)
    shown = capsys.readouterr().out
    assert "One.\n</think>\nAnswer 1.<|im_end|>»" in shown
    assert "Two.\n</think>\nAnswer 2.<|im_end|>»" in shown
    assert "[unrolled into 2 samples, 2 documents]" in shown


def test_a_row_is_known_by_all_of_it_where_its_longest_sample_is_dropped(training_recipe):
    rows = [reasoned("One.", f"{word} " * 200) for word in ("so", "no", "so")]
    for row, question in zip(rows, ("Why?", "How?", "Why?"), strict=True):
        row["messages"][2]["content"] = question
    keys = {"train_on": "unroll", "overflow": "drop", "max_length": 150}
    path = training_recipe(rows, mixture={"deduplicate": "exact"}, **keys)
    total = prepared(path)[2]["total"]
    assert (total["kept"], total["duplicate"]) == (2, 1)


def test_unrolled_rows_of_the_same_first_question_are_held_out_together(training_recipe):
    rows = []
    for number in range(40):
        row = reasoned("One.", "Two.")
        row["messages"][0]["content"] = f"First {number % 4}?"
        row["messages"][2]["content"] = f"Second {number}?"
        rows.append(row)
    path = training_recipe(rows, mixture={"test_split_size": 10}, train_on="unroll", max_length=512)
    _, _, stats = prepared(path)
    assert (stats["held_out"]["rows"], stats["held_out"]["prompts"]) == (10, 1)
