"""Rows of every format become the same conversation or pair."""

from dataclasses import replace

import pytest
from data_helpers import BAD, GOOD, MESSAGES, PROMPT, parsed_row

from apo_soup.data.conversations.formats import SUPERVISED, format_of_row
from apo_soup.data.sources.rows import RowError


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("messages", {"messages": MESSAGES, "prompt": "What?"}),
        ("sharegpt", {"conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]}),
        (
            "sharegpt",
            {"conversations": [{"role": "user", "content": "What?"}, {"role": "assistant", "content": "That."}]},
        ),
        ("alpaca", {"instruction": "What?", "input": "", "output": "That.", "text": "Below is an instruction"}),
        ("prompt_completion", {"prompt": "What?", "completion": "That."}),
    ],
)
def test_every_supervised_format_becomes_the_same_messages(name, row):
    recognised, item = parsed_row(row)
    assert recognised == name
    assert item.messages == MESSAGES


def test_plain_text_stays_text():
    assert parsed_row({"text": "Once upon a time"})[1].text == "Once upon a time"
    with pytest.raises(RowError, match="field text: expected text, got an empty one"):
        parsed_row({"text": " "})


def test_one_turn_of_a_tree_of_turns_is_no_text():
    """As OASST's rows are: the user's words would be trained."""
    with pytest.raises(RowError, match=r"expected a whole text, got one turn of a conversation \(role prompter\); put"):
        parsed_row({"message_id": "1", "parent_id": None, "text": "Why?", "role": "prompter"})


@pytest.mark.parametrize("role", ["model", "function", "tool", "system"])
def test_a_role_of_whole_texts_may_be_renamed(role):
    with pytest.raises(RowError, match=r"or, where each is a whole text, write rename: \{role: kind\} for the source"):
        parsed_row({"text": "A page.", "role": role})
    assert parsed_row({"text": "A page.", "kind": role})[1].text == "A page."


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "What?", "completion": "That."},
        {"prompt": PROMPT, "completion": "That."},
        {"instruction": "What?", "output": "That."},
        {"instruction": "What?", "response": "That."},
        {"query": "What?", "response": "That."},
    ],
)
def test_the_reasoning_of_a_text_stands_in_a_column_of_its_row(row):
    for thought in ("Hm.", ["Hm."], "<think>\nHm.\n</think>"):
        _, item = parsed_row({**row, "reasoning_content": thought})
        assert [(m["content"], m.get("reasoning_content")) for m in item.messages] == [
            ("What?", None),
            ("That.", "Hm."),
        ]
    assert parsed_row({**row, "reasoning_content": None})[1].messages == MESSAGES
    assert parsed_row({**row, "reasoning_content": "Hm.", "enable_thinking": False})[1].messages == MESSAGES


@pytest.mark.parametrize(
    ("completion", "thought", "reason"),
    [
        ([*GOOD, *PROMPT, *GOOD], "Hm.", "expected a completion of one answer beside it, got turns; write"),
        ("That.", "high", "expected reasoning as text, got str 'high', which is no thought; write"),
        ("<think>Ho.</think>That.", "Hm.", "expected reasoning in the content or in a field of its own, got it in"),
        (
            [{**GOOD[0], "reasoning_content": "Ho."}],
            "Hm.",
            "expected one reasoning, got reasoning_content and thinking",
        ),
    ],
)
def test_a_column_that_is_no_reasoning_of_the_answer_is_named_and_how_to_leave_it_out(completion, thought, reason):
    row = {"prompt": "What?", "completion": completion, "reasoning_content": thought}
    told = f"field reasoning_content: {reason}.*, or leave the column unread with rename: {{reasoning_content: notes}}"
    with pytest.raises(RowError, match=told):
        parsed_row(row)
    assert parsed_row({**row, "enable_thinking": False})[1].mode == "no_think"
    assert parsed_row({"prompt": "What?", "completion": completion, "notes": thought})[1].messages


def test_sharegpt_calls_and_observations_become_tool_turns():
    turns = [
        {"from": "human", "value": "1 + 2?"},
        {"from": "function_call", "value": '{"name": "add", "arguments": {"a": 1, "b": 2}}'},
        {"from": "observation", "value": "3"},
        {"from": "gpt", "value": "3"},
    ]
    tools = '[{"name": "add"}]'
    _, item = parsed_row({"conversations": turns, "system": "Calculate.", "tools": tools})
    assert [m["role"] for m in item.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert item.messages[2]["tool_calls"][0]["function"] == {"name": "add", "arguments": {"a": 1, "b": 2}}
    assert item.kwargs["tools"] == [{"name": "add"}]


def test_alpaca_puts_the_input_below_and_the_history_before():
    row = {"instruction": "Add.", "input": "1, 2", "output": "3", "history": [["Hi", "Hello"]], "system": "Be brief."}
    contents = [m["content"] for m in parsed_row(row)[1].messages]
    assert contents == ["Be brief.", "Hi", "Hello", "Add.\n\n1, 2", "3"]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("preference", {"prompt": "What?", "chosen": "That.", "rejected": "No."}),
        ("preference", {"prompt": PROMPT, "chosen": GOOD, "rejected": BAD}),
        ("preference", {"prompt": "What?", "chosen": PROMPT + GOOD, "rejected": PROMPT + BAD}),
        ("preference", {"chosen": PROMPT + GOOD, "rejected": PROMPT + BAD}),
        ("preference", {"question": "What?", "system": "", "chosen": "That.", "rejected": "No."}),
        ("preference", {"input": "What?", "chosen": "That.", "rejected": "No."}),
        ("preference", {"question": "Else?", "chosen": PROMPT + GOOD, "rejected": PROMPT + BAD}),
        ("chosen_response", {"messages": PROMPT, "chosen_response": GOOD[0], "rejected_response": BAD[0]}),
        ("chosen_response", {"instruction": "What?", "chosen_response": "That.", "rejected_response": "No."}),
        ("chosen_response", {"prompt": "What?", "chosen_response": "That.", "rejected_response": "No."}),
        ("chosen_response", {"question": "What?", "chosen_response": "That.", "rejected_response": "No."}),
        (
            "sharegpt_preference",
            {
                "conversations": [{"from": "human", "value": "What?"}],
                "chosen": {"from": "gpt", "value": "That."},
                "rejected": {"from": "gpt", "value": "No."},
            },
        ),
    ],
)
def test_every_preference_format_becomes_the_same_pair(name, row):
    recognised, item = parsed_row(row, pairs=True)
    assert recognised == name
    assert (item.prompt, item.chosen, item.rejected) == (PROMPT, GOOD, BAD)


ANSWERS = {"chosen_response": "That.", "rejected_response": "No."}
EARLIER = [{"role": "user", "content": "One?"}, {"role": "assistant", "content": "Two."}]


@pytest.mark.parametrize(
    ("row", "asked"),
    [
        ({"prompt": "What?", "history": [["One?", "Two."]]}, ["One?", "Two.", "What?"]),
        ({"query": "What?", "history": EARLIER, "system": "S"}, ["S", "One?", "Two.", "What?"]),
        ({"question": "Double?", "input": "21"}, ["Double?\n\n21"]),
        ({"prompt": "Q: What?", "question": "What?", "input": "<noinput>"}, ["Q: What?"]),
        ({"prompt": "", "question": "What?"}, ["What?"]),
        ({"messages": [*EARLIER, *PROMPT], "history": [["One?", "Two."]], "query": "What?"}, ["One?", "Two.", "What?"]),
        ({"prompt": "What?", "messages": [*PROMPT, *GOOD]}, ["What?"]),
    ],
)
def test_a_chosen_response_is_to_all_that_its_row_asks(row, asked):
    name, item = parsed_row({**row, **ANSWERS}, pairs=True)
    assert (name, [turn["content"] for turn in item.prompt]) == ("chosen_response", asked)


@pytest.mark.parametrize(
    ("row", "first", "second"),
    [
        ({"instruction": "What?", "conversation": [*EARLIER, *PROMPT]}, "instruction", "conversation"),
        ({"prompt": "What?", "messages": [*EARLIER, *PROMPT]}, "prompt", "messages"),
        ({"prompt": "What?", "question": "Else?"}, "prompt", "question"),
        ({"question": "What?", "conversation": [*EARLIER, *PROMPT]}, "question", "conversation"),
        ({"messages": PROMPT, "history": [["One?", "Two."]]}, "messages", "history"),
    ],
)
def test_two_columns_that_ask_differently_are_refused(row, first, second):
    with pytest.raises(RowError, match=f"fields {first}, {second}: expected one question, got .* as {second}, which "):
        parsed_row({**row, **ANSWERS}, pairs=True)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"conversations": [{"from": "alien", "value": "x"}]},
            r"conversations\[0\].from: expected one of .*got 'alien'",
        ),
        ({"conversations": "x"}, "conversations: expected a list of turns, got str 'x'"),
        ({"conversations": [{"from": "function_call", "value": "{"}]}, r"conversations\[0\].value: .* as JSON"),
        ({"instruction": 3, "output": "x"}, "field instruction: expected text, got int 3"),
        ({"instruction": "x", "output": "y", "history": ["a"]}, "field history: expected a list"),
    ],
)
def test_a_row_that_breaks_its_format_names_the_field(row, reason):
    with pytest.raises(RowError, match=reason):
        parsed_row(row)


def test_a_system_column_is_read_in_every_format():
    system = {"role": "system", "content": "Be brief."}
    for row in (
        {"messages": MESSAGES, "system": "Be brief."},
        {"prompt": "What?", "completion": "That.", "system": "Be brief."},
    ):
        assert parsed_row(row)[1].messages == [system, *MESSAGES]
    for row in (
        {"prompt": "What?", "chosen": "That.", "rejected": "No.", "system": "Be brief."},
        {"prompt": [system, *PROMPT], "chosen": PROMPT + GOOD, "rejected": PROMPT + BAD},
    ):
        assert parsed_row(row, pairs=True)[1].prompt == [system, *PROMPT]


USUAL = SUPERVISED[0]
SHAREGPT = {"conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]}


@pytest.mark.parametrize(
    ("row", "name"),
    [
        (SHAREGPT, "sharegpt"),
        ({"instruction": "What?", "output": "That.", "text": "a copy"}, "alpaca"),
        ({"messages": MESSAGES, **SHAREGPT}, "messages"),
        ({"foo": 1}, "messages"),
    ],
)
def test_a_row_of_another_format_is_read_as_such_where_it_fits_no_second(row, name):
    found = format_of_row(row, replace(USUAL, turn_order="join"), named=False)
    assert (found.name, found.turn_order) == (name, "join")
    assert format_of_row(row, USUAL, named=True) is USUAL


@pytest.mark.parametrize(
    ("row", "got"),
    [({"text": "words"}, "text"), ({**SHAREGPT, "instruction": "What?", "output": "That."}, "sharegpt or alpaca")],
)
def test_a_row_that_may_be_more_than_one_thing_names_what_it_is(row, got):
    told = f"expected a row of format messages, as the first rows of its source, got one of format {got}; put such rows"
    with pytest.raises(RowError, match=told):
        format_of_row(row, USUAL, named=False)
