"""Turns of every dialect in every column, and what is told of those that nobody knows."""

import json

import pytest
from data_helpers import BAD, CALL, GOOD, MESSAGES, PROMPT, TOOLS, parsed_row

from apo_soup.data.sources.rows import RowError

EXCHANGE = {"human": "What?", "assistant": "That."}


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("messages", {"messages": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]}),
        ("messages", {"messages": [{"role": "human", "content": "What?"}, {"role": "model", "content": "That."}]}),
        ("messages", {"messages": json.dumps(MESSAGES)}),
        ("messages", {"messages": str(MESSAGES)}),
        ("messages", {"messages": [EXCHANGE]}),
        ("messages", {"messages": {"role": ["user", "assistant"], "content": ["What?", "That."]}}),
        (
            "messages",
            {"messages": [{"role": "USER", "parts": [{"text": "What?"}]}, {"role": "model", "parts": ["That."]}]},
        ),
        ("messages", {"messages": [{"type": "human", "content": "What?"}, {"type": "ai", "content": "That."}]}),
        (
            "messages",
            {"messages": [{"role": "User", "message": "What?"}, {"role": "Chatbot", "message": "That."}]},
        ),
        ("messages", {"messages": [{"speaker": "human", "text": "What?"}, {"speaker": "ai", "text": "That."}]}),
        ("messages", {"messages": [{"role": "user", "content": {"type": "text", "text": "What?"}}, MESSAGES[1]]}),
        ("sharegpt", {"conversations": [EXCHANGE]}),
        ("conversation", {"conversation": [EXCHANGE]}),
        ("conversation", {"conversation": [{"user": "What?", "bot": "That."}]}),
        ("conversation", {"conversation": [{"input": "What?", "output": "That."}]}),
        ("conversation", {"conversation": MESSAGES}),
        ("query_response", {"query": "What?", "response": "That."}),
        ("instruction_response", {"instruction": "What?", "response": "That."}),
        ("instruction_response", {"instruction": "What?", "context": "", "response": "That."}),
    ],
)
def test_one_conversation_comes_of_every_dialect(name, row):
    before = json.dumps(row)
    recognised, item = parsed_row(row)
    assert (recognised, item.messages) == (name, MESSAGES)
    assert json.dumps(row) == before


def test_systems_histories_and_masks_of_other_tools_are_read():
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    whole = [*asked, {"role": "assistant", "content": "Hello"}, *MESSAGES]
    for row in (
        {"query": "What?", "response": "That.", "history": [["Hi", "Hello"]], "system": "Be brief."},
        {"query": "What?", "response": "That.", "history": "[['Hi', 'Hello']]", "system": "Be brief."},
        {"query": "What?", "response": "That.", "history": whole[1:3], "system": "Be brief."},
        {
            "query": "What?",
            "response": "That.",
            "history": [["Hi", "Hello"]],
            "system": {"parts": [{"text": "Be brief."}]},
        },
        {"query": "What?", "response": "That.", "history": [["Hi", "Hello"]], "system_prompt": "Be brief."},
        {"conversation": [{"human": "Hi", "assistant": "Hello"}, EXCHANGE], "system": "Be brief."},
        {
            "conversation": [
                {"system": "Be brief.", "input": "Hi", "output": "Hello"},
                {"input": "What?", "output": "That."},
            ]
        },
    ):
        assert parsed_row(row)[1].messages == whole
    masked = {"input": "Hi", "output": "Hello", "output_with_loss": False}
    assert parsed_row({"conversation": [masked, {"input": "What?", "output": "That."}]})[1].masked_turns == {0}


def test_calls_in_turns_of_their_own_join_the_words_before_them():
    call, result = json.dumps(CALL["function"]), {"role": "tool_response", "content": "3"}
    row = {
        "messages": [
            {"role": "user", "content": "1 + 2?"},
            {"role": "assistant", "content": "<think>\nHm.\n</think>\n"},
            {"role": "tool_call", "content": call},
            {"role": "tool_call", "content": call},
            result,
            result,
            {"role": "assistant", "content": "3"},
        ]
    }
    _, spoken, *rest = parsed_row(row)[1].messages
    assert spoken == {"role": "assistant", "content": "<think>\nHm.\n</think>\n", "tool_calls": [CALL, CALL]}
    assert [m["role"] for m in rest] == ["tool", "tool", "assistant"]


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("chosen_messages", {"chosen_messages": PROMPT + GOOD, "rejected_messages": PROMPT + BAD}),
        ("rejected_messages", {"messages": PROMPT + GOOD, "rejected_messages": PROMPT + BAD}),
        ("rejected_response", {"messages": PROMPT + GOOD, "rejected_response": "No."}),
        ("rejected_response", {"conversation": [EXCHANGE], "rejected_response": "No."}),
        ("rejected_response", {"query": "What?", "response": "That.", "rejected_response": "No."}),
        ("instruction_preference", {"instruction": "What?", "input": "", "chosen": "That.", "rejected": "No."}),
        ("output_preference", {"instruction": "What?", "output": ["That.", "No."]}),
        ("preferred_output", {"input": {"messages": PROMPT}, "preferred_output": GOOD, "non_preferred_output": BAD}),
        ("preference", {"messages": PROMPT, "chosen": "That.", "rejected": "No."}),
    ],
)
def test_one_pair_comes_of_every_dialect(name, row):
    recognised, item = parsed_row(row, pairs=True)
    assert recognised == name
    assert (item.prompt, item.chosen, item.rejected) == (PROMPT, GOOD, BAD)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            {"messages": [{"role": "alien", "content": "x"}]},
            r"field messages\[0\].role: expected one of .*, got 'alien'",
        ),
        ({"messages": [*MESSAGES, 3]}, r"field messages\[2\]: expected a mapping with role and content, got int 3"),
        (
            {"messages": MESSAGES, "system": "A", "system_prompt": "B"},
            "fields system, system_prompt: expected one system text, got two that differ; remove one",
        ),
        ({"messages": MESSAGES, "system": 5}, "field system: expected text, got int 5; correct it"),
        (
            {"messages": [{"role": "system", "content": "A"}, *MESSAGES], "system": "B"},
            "field system: expected the text of the row's own system turn, got another text; remove one of them",
        ),
        ({"query": "a", "response": " "}, "field response: expected an answer, got an empty text; correct the row"),
        ({"query": "a", "response": ["b"]}, r"field response: expected text, got list \['b'\]; correct the row"),
        (
            {"query": "a", "response": "b", "history": "x"},
            r"field history: expected a list of \[question, answer\], got",
        ),
        (
            {"prompt": "a", "completion": json.dumps(MESSAGES)},
            "field completion: expected text or turns, got turns written as text; store them as a list",
        ),
        (
            {"messages": [{"role": "user", "content": "a"}, {"type": "reasoning"}]},
            "expected reasoning in parts with text",
        ),
    ],
)
def test_rows_that_say_two_things_or_nothing_are_refused(row, reason):
    with pytest.raises(RowError, match=reason):
        parsed_row(row)


def test_pairs_that_lack_a_side_or_a_prompt_say_what_to_write():
    for row, reason in (
        (
            {"problem": "q", "chosen": "a", "rejected": "b"},
            r"got none, .*; write rename: {problem: prompt} for the sour",
        ),
        ({"query": "q", "rejected_response": "b"}, "field response: expected text, got NoneType None; correct the row"),
        ({"rejected_response": "b"}, "field messages: expected a conversation, got a row with rejected_response"),
        ({"messages": PROMPT, "rejected_response": "b"}, "expected a conversation that ends with the better answer"),
        (
            {"instruction": "q", "output": "a"},
            "field output: expected a list of a better and a worse answer, got str 'a'",
        ),
        (
            {"input": "q", "preferred_output": "a", "non_preferred_output": "b"},
            "field input: expected a mapping with mes",
        ),
    ):
        with pytest.raises(RowError, match=reason):
            parsed_row(row, pairs=True)


@pytest.mark.parametrize(
    ("turn", "fits"),
    [
        ({"from": "human", "role": "user", "value": "What?"}, True),
        ({"from": "human", "role": "Ann", "value": "What?"}, True),
        ({"from": "human", "role": "assistant", "value": "What?"}, False),
        ({"from": "gpt", "speaker": "user", "value": "What?"}, False),
    ],
)
def test_a_turn_that_names_two_speakers_is_refused(turn, fits):
    row = {"conversations": [turn, {"from": "gpt", "value": "That."}]}
    if fits:
        assert parsed_row(row)[1].messages[0]["role"] == "user"
        return
    with pytest.raises(RowError, match=r"field conversations\[0\]: expected one speaker, got from '.*remove one"):
        parsed_row(row)


def test_calls_that_answer_a_query_are_calls():
    """xLAM's rows hold tools and answers as text."""
    call = {"name": "add", "arguments": {"a": 1, "b": 2}}
    row = {"query": "1 + 2?", "tools": json.dumps(TOOLS), "answers": json.dumps([call, call])}
    name, item = parsed_row(row)
    assert name == "query_answers"
    assert item.messages == [
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]},
    ]
    assert item.kwargs["tools"] == TOOLS
    with pytest.raises(RowError, match=r"field answers: expected a call with function.name, got str 'Paris'"):
        parsed_row({**row, "answers": ["Paris"]})


@pytest.mark.parametrize("nothing", ["<noinput>", "<No Input>", "No input", " "])
def test_an_input_that_says_there_is_none_is_none(nothing):
    row = {"instruction": "What?", "input": nothing, "output": "That."}
    assert parsed_row(row)[1].messages == MESSAGES
    for said in ("None", "NaN", "n/a"):  # which a question may be about
        assert parsed_row({**row, "input": said})[1].messages[0]["content"] == f"What?\n\n{said}"
