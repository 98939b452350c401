"""Harmony's channels: reasoning, words before calls, calls and answers of several turns as one."""

import pytest
from data_helpers import CALL, parsed_row

from apo_soup.data.sources.rows import RowError

ASK = {"role": "user", "content": "1 + 2?"}


def said(channel: str | None, content: str, **beside) -> dict:
    return {"role": "assistant", "content": content, **({"channel": channel} if channel else {}), **beside}


CALLS = said("commentary", '{"a": 1, "b": 2}', recipient="functions.add", content_type="json")
RESULT = {"role": "tool", "name": "functions.add", "content": "3", "channel": "commentary", "recipient": "assistant"}


def turns(*assistants: dict) -> list[dict]:
    return parsed_row({"messages": [ASK, *assistants]})[1].messages[1:]


def test_analysis_is_the_reasoning_of_what_follows_it():
    thought = {"thinking": "Hm.", "reasoning_content": "Hm."}
    assert turns(said("analysis", "Hm."), said("final", "3")) == [{"role": "assistant", "content": "3", **thought}]
    assert turns(said("analysis", "Hm."), CALLS, RESULT, said("analysis", "So."), said("final", "3")) == [
        {"role": "assistant", "content": "", "tool_calls": [CALL], **thought},
        {"role": "tool", "name": "add", "content": "3"},
        {"role": "assistant", "content": "3", "thinking": "So.", "reasoning_content": "So."},
    ]


def test_commentary_stands_before_its_calls_and_several_calls_are_one_turn():
    first, *_ = turns(said("analysis", "H"), said("analysis", "m"), said("commentary", "Wait."), CALLS, CALLS, RESULT,
                      said("final", "3"))  # fmt: skip
    assert (first["content"], first["reasoning_content"], first["tool_calls"]) == ("Wait.", "H\n\nm", [CALL, CALL])


def test_gpt_oss_rows_with_a_field_for_reasoning_are_read_without_channels():
    (answer,) = turns({"role": "assistant", "content": "3", "thinking": "Hm."})
    assert answer == {"role": "assistant", "content": "3", "thinking": "Hm.", "reasoning_content": "Hm."}


def test_contents_may_be_parts_and_flags_hold_for_the_whole_turn():
    parts = [{"type": "text", "text": "Hm."}]
    row = {"messages": [ASK, said("analysis", parts, weight=0), said("final", "3", weight=0), ASK, said("final", "4")]}
    item = parsed_row(row)[1]
    assert item.masked_turns == {0}
    assert [m["content"] for m in item.messages] == ["1 + 2?", "3", "1 + 2?", "4"]


@pytest.mark.parametrize(
    ("assistants", "reason"),
    [
        (
            [said("analysis", "Hm.")],
            r"messages\[1\].channel: expected an answer or a call behind analysis, got none; rem",
        ),
        ([said("secret", "3")], "expected one of analysis, commentary, final, got str 'secret'; correct it"),
        ([said("final", None)], r"messages\[1\].content: expected text, got NoneType None"),
        (
            [said("analysis", "Hm."), said("final", "3", weight=0)],
            r"messages\[2\]: expected the flags of the turn it bel",
        ),
        (
            [said("analysis", "Hm."), said("final", "3", thinking="So.")],
            "reasoning in a channel or in a field, got both",
        ),
        (
            [said("analysis", "1 + 2", recipient="python"), RESULT],
            r"function.arguments: expected JSON, got str '1 \+ 2'",
        ),
        ([said(None, "{}", recipient=3)], r"messages\[1\].recipient: expected the name of a tool, got int 3"),
    ],
)
def test_channels_that_cannot_be_one_turn_are_refused(assistants, reason):
    with pytest.raises(RowError, match=reason):
        turns(*assistants)


def test_openais_response_items_are_turns():
    row = {
        "messages": [
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "1 + 2?"}]},
            {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a": 1, "b": 2}'},
            {"type": "function_call_output", "call_id": "c1", "output": "3"},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "3"}]},
        ]
    }
    ask, call, result, answer = parsed_row(row)[1].messages
    assert ask == ASK
    assert (call["reasoning_content"], call["tool_calls"]) == ("Hm.", [{"id": "c1", **CALL}])
    assert result == {"role": "tool", "content": "3", "tool_call_id": "c1"}
    assert answer == {"role": "assistant", "content": "3"}
