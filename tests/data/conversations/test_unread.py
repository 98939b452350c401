"""Fields of a row and of its turns that nothing reads: counted, and named in a warning where they judge or think."""

import pytest
from data_helpers import MESSAGES, ROWS, options, parsed_row, prepared
from helpers import chat

from apo_soup.data.conversations.formats import formats_of, recognise
from apo_soup.data.conversations.unread import unread_fields
from apo_soup.data.documents import RowToEncode
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.data.sources.rows import RowError, SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.data.statistics_table import statistics_table, unread_lines
from apo_soup.errors import UserError


def unread(row: dict, pairs: bool = False) -> set[str]:
    """The fields of a row that nothing reads."""
    row_format = recognise(row, formats_of(pairs))
    return unread_fields(row, parsed_row(row, pairs)[1].messages, row_format.reads, row_format.copies)


def told_of(field: str) -> str:
    """The line about a field that nothing reads."""
    (line,) = unread_lines({"unread_fields": [{"field": field, "source": "s", "rows": 1}]})
    return line


def test_fields_that_nothing_reads_are_counted_and_those_that_judge_are_warned_of(training_recipe):
    rows = [{**row, "label": False, "id": n} for n, row in enumerate(ROWS[:20])]
    rows[0]["messages"] = [{**turn, "mood": "glad", "id": 1} for turn in rows[0]["messages"]]
    rows[0]["thoughts"] = "add them"
    path = training_recipe(rows)
    folder, _, stats = prepared(path)
    source = stats["sources"][0]["source"]
    assert stats["unread_fields"] == [
        {"source": source, "field": "label", "rows": 20},
        {"source": source, "field": "thoughts", "rows": 1},
        {"source": source, "field": "turns.mood", "rows": 1},
    ]
    told = statistics_table(stats)
    assert f"warning: field label of 20 rows of {source} is not used, and such a field says how" in told
    assert f"thoughts of 1 row of {source} is not used, so what was thought before an answer is not trained" in told
    assert f"\nfield turns.mood of 1 row of {source} is not used" in told
    refused = r"unknown_fields: expected fields that are read, got label in 20 rows of .*; drop the column, map it"
    with pytest.raises(UserError, match=refused):
        prepared(path, "--unknown_fields", "refuse")
    assert folder.is_dir()
    with pytest.raises(UserError, match=refused):
        prepared(path, "--unknown_fields", "refuse", "--seed", "7")


def test_a_field_that_is_null_or_empty_says_nothing(training_recipe):
    rows = [{**row, "images": None, "label": [], "score": ""} for row in ROWS[:20]]
    assert prepared(training_recipe(rows))[2]["unread_fields"] == []
    assert chat("a", "b")["messages"][0].keys() == {"role", "content"}


def test_a_flag_that_asks_to_train_another_turn_than_the_assistants_is_not_passed_over():
    turns = [{"role": "user", "content": "a", "train": True}, {"role": "assistant", "content": "b", "train": True}]
    assert unread_fields({}, turns, frozenset()) == {"turns.train of a user turn"}
    assert unread_fields({}, [{**turns[0], "train": False}], frozenset()) == set()


@pytest.mark.parametrize("field", ["loss_mask", "train", "weight", "assistant_masks", "train_on_input", "correct"])
def test_a_flag_of_a_whole_row_is_named_in_a_warning(field):
    stats = {"unread_fields": [{"field": field, "source": "s", "rows": 1}]}
    (line,) = unread_lines(stats)
    assert line.startswith(f"warning: field {field} of ")


@pytest.mark.parametrize(
    "field",
    """weights train_on_turn lossMask turns.is_train turns.Train turns.no_loss turns.train_detail turns.loss_weight
    turns.weight_of_turn used_in_training kto_tag is_correct margin chosen_weight Label overall_score""".split(),
)
def test_a_field_that_judges_is_known_by_the_words_of_its_name(field):
    assert told_of(field).endswith("such a field says how a row is to be used")
    assert told_of("turns.weight of a user turn").endswith("such a field says how a row is to be used")


@pytest.mark.parametrize("field", ["mood", "trainer", "training_source", "language_score", "unmasked", "category"])
def test_a_field_that_only_tells_is_counted_without_a_warning(field):
    assert told_of(field) == f"field {field} of 1 row of s is not used"


@pytest.mark.parametrize(
    "field",
    """Complex_CoT thinking_trajectories reasoningTrace turns.reasoning_details turns.inner_monologue chosen_thinking
    deepseek_reasoning turns.thought chain_of_thought""".split(),
)
def test_a_field_of_thoughts_is_known_by_the_words_of_its_name(field):
    told, _, cure = told_of(field).partition("; ")
    assert told.endswith("so what was thought before an answer is not trained")
    read = f"in a row of one answer, as text, rename: {{{field}: reasoning_content}} reads it"
    assert cure == ("" if field.startswith(("chosen", "turns.")) else read)
    for tells in ("reasoning_effort", "thinking_budget", "reasoning_tokens", "cot_type"):
        assert told_of(tells) == f"field {tells} of 1 row of s is not used"


@pytest.mark.parametrize("prompt", ["What?", " What?\n", "User: What?\nAssistant:", MESSAGES[:1], MESSAGES])
def test_a_copy_of_what_the_turns_say_is_not_unread(prompt):
    row = {"messages": MESSAGES, "prompt": prompt}
    assert unread(row) == set()
    pair = {"chosen": MESSAGES, "rejected": [MESSAGES[0], {"role": "assistant", "content": "No."}]}
    assert unread({**pair, "messages": MESSAGES}, pairs=True) == set()


def test_a_column_that_was_taken_for_a_copy_and_says_something_else_is_counted():
    assert unread({"messages": MESSAGES, "prompt": "Who?"}) == {"prompt"}
    for number in (7, 1.5, False):
        assert unread({"messages": MESSAGES, "prompt": number}) == {"prompt"}
    assert unread({"messages": MESSAGES, "prompt": [{"role": "user", "content": "Who?"}]}) == {"prompt"}
    alpaca = {"instruction": "What?", "output": "That."}
    assert unread({**alpaca, "text": "Below is an instruction.\n\nWhat?\n\nThat."}) == set()
    assert unread({**alpaca, "text": "Something else."}) == {"text"}
    below = {
        **alpaca,
        "input": "One\n\nTwo",
        "text": "### Instruction:\nWhat?\n\n### Input:\nOne\n\nTwo\n\n### Response:\nThat.",
    }
    assert unread(below) == set()
    pair = {"chosen": MESSAGES, "rejected": [MESSAGES[0], {"role": "assistant", "content": "No."}]}
    other = [MESSAGES[0], {"role": "assistant", "content": "Another."}]
    assert unread({**pair, "messages": other}, pairs=True) == {"messages"}


def test_what_stands_beside_the_turns_of_openais_pairs_is_named():
    said = {name: [{"role": "assistant", "content": name}] for name in ("preferred_output", "non_preferred_output")}
    asked = {"messages": [{"role": "user", "content": "Q?"}], "tools": [], "parallel_tool_calls": True, "metadata": {}}
    assert unread({"input": asked, **said}, pairs=True) == {"input.parallel_tool_calls"}


def test_what_an_answer_says_is_no_copy_of_what_was_asked():
    """A short column stands in many an answer."""
    alone = {"chosen": "The cat purrs.", "rejected": "The dog."}
    asked, whole = {"role": "user", "content": "Translate it."}, {}
    for side, said in alone.items():
        whole[side] = [asked, {"role": "assistant", "content": said}]
    assert unread({**whole, "input": "cat"}, pairs=True) == {"input"}
    assert unread({**whole, "input": "Translate it."}, pairs=True) == set()
    with pytest.raises(RowError, match="fields prompt, input: expected one question, got str 'cat' as input, which pr"):
        parsed_row({"prompt": "Translate it.", **alone, "input": "cat"}, pairs=True)
    for same in ("Translate it.", "<noinput>", " ", "User: Translate it.\nAssistant:"):
        assert unread({"prompt": "Translate it.", **alone, "input": same}, pairs=True) <= {"input"}
    for name in ("question", "query"):
        pair = parsed_row({name: "Translate it.", "input": "chat", **alone}, pairs=True)[1]
        assert pair.prompt == [{"role": "user", "content": "Translate it.\n\nchat"}]
    served = {"chosen_response": "The cat purrs.", "rejected_response": "The dog.", "prompt": "Translate it."}
    with pytest.raises(RowError, match="fields prompt, input: expected one question, got str 'cat' as input"):
        parsed_row({**served, "input": "cat"}, pairs=True)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        ("score_chosen", "score_rejected"),
        ("chosen-rating", "rejected-rating"),
        ("chosen_reward", "rejected_reward"),
        ("chosenAvgRating", "rejectedAvgRating"),
    ],
)
def test_scores_of_both_answers_are_compared_whatever_their_columns_are_called(better, worse):
    pair = {"prompt": "What?", "chosen": "That.", "rejected": "No."}
    for high, low in ((9, 2.0), ("9", "2.5"), (3, 3), ("many", 9), (None, 9)):
        assert unread({**pair, better: high, worse: low}, pairs=True) <= {worse}
        with pytest.raises(RowError, match=f"fields {better}, {worse}: expected the chosen answer to score no less"):
            parsed_row({**pair, better: "1", worse: 2}, pairs=True)
    for name in ("length", "toxicity_score", "rank"):
        lower = {f"chosen_{name}": 1, f"rejected_{name}": 9}
        assert unread({**pair, **lower}, pairs=True) == lower.keys()


CHATML = "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- endfor -%}"


@pytest.mark.parametrize(
    "row", [{"prompt": "What?", "completion": "That."}, {"instruction": "What?", "output": "That."}]
)
@pytest.mark.parametrize(
    ("template", "thought", "mode", "told"),
    [
        (CHATML, "Hm.", {}, 1),
        (CHATML, "high", {}, 1),
        (None, "Hm.", {"enable_thinking": False}, 1),
        (None, "none", {"enable_thinking": False}, 0),
        (None, "Hm.", {}, 0),
    ],
)
def test_a_column_of_reasoning_is_unread_where_none_is_written(tokenizer, use, row, template, thought, mode, told):
    if template:
        use(template)
    given = {**row, "reasoning_content": thought, **mode}
    encoder = SupervisedEncoder(tokenizer, options(assistant_only_loss=True))
    shape = recognise(given, formats_of(pairs=False))
    batch = encoder([RowToEncode(Source("rows"), SourceRow("rows:1", given), shape, 1, checked=True)])
    assert batch.unread == ({("rows", "reasoning_content"): 1} if told else {})
    text = tokenizer.decode(batch.results[0].parts[0][0])
    assert ("Hm." in text, text.rstrip().endswith("That.<|im_end|>")) == (not told and thought == "Hm.", True)
