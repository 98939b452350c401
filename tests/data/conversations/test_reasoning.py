"""Reasoning wherever it stands in a turn: once where it is the same, refused where one would be lost."""

import pytest
from data_helpers import PROMPT, parsed_row

from apo_soup.data.sources.rows import RowError

SEALED = {"type": "reasoning.encrypted", "data": "x", "format": "f", "index": 0}
TEXT, THOUGHT = {"type": "text", "text": "A"}, {"type": "thinking", "thinking": "r"}


def answer(**beside) -> dict:
    return parsed_row({"messages": [*PROMPT, {"role": "assistant", "content": "A", **beside}]})[1].messages[1]


@pytest.mark.parametrize(
    "beside",
    [
        {"reasoning_content": "r"},
        {"reasoning_content": "", "thinking": "r"},
        {"reasoning_content": "r", "thinking": "r", "reasoning": "r\n"},
        {"reasoning_content": "<think>\nr\n</think>\n"},
        {"content": [THOUGHT, TEXT], "reasoning_content": "r"},
        {"reasoning": [{"type": "summary_text", "text": "r"}]},
        {"reasoning": {"summary": [{"type": "summary_text", "text": "r"}], "content": []}},
        {"reasoning": ["r"], "reasoning_content": "None"},
        {"thinking_blocks": [{"type": "thinking", "thinking": "r", "signature": "s"}]},
        {"reasoning_text": "r"},
        {"reasoning": "r", "reasoning_details": [{"type": "reasoning.text", "text": "r", "signature": "s"}]},
        {"reasoning_content": "r", "thinking_blocks": []},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "r"}], "reasoning_content": None},
        {"reasoning": "r", "reasoning_details": [{"type": "reasoning.summary", "summary": "r"}, SEALED]},
        {"reasoning_content": "r", "thinking_blocks": [{"type": "redacted_thinking", "data": "x"}]},
        {"reasoning": "r", "reasoning_details": [{"type": "reasoning.text", "text": None, "signature": "s"}]},
    ],
)
def test_one_reasoning_is_read_wherever_it_stands(beside):
    message = answer(**beside)
    assert (message["content"], message["reasoning_content"], message["thinking"]) == ("A", "r", "r")


def test_a_block_and_the_same_reasoning_beside_it_are_the_block():
    block = "<think>\nr\n</think>\nA"
    assert answer(content=block, reasoning_content="r") == {"role": "assistant", "content": block}


@pytest.mark.parametrize(
    ("beside", "reason"),
    [
        (
            {"reasoning_content": "r", "thinking": "q"},
            "expected one reasoning, got reasoning_content and thinking that differ",
        ),
        ({"reasoning_content": "r</think>z"}, "reasoning_content: expected reasoning without <think> and </think>"),
        ({"thinking": "a <think> b"}, "thinking: expected reasoning without <think> and </think>, which the template"),
        ({"reasoning": "<think>a</think><think>b</think>"}, "reasoning: expected reasoning without <think>"),
        ({"content": "<think>r</think>A", "reasoning": "q"}, "in the content or in a field of its own, got it in both"),
        ({"content": [THOUGHT, TEXT], "reasoning": "q"}, "reasoning in the content or in a field, got two; remove one"),
        ({"content": [TEXT, THOUGHT, TEXT]}, r"content\[1\]: expected reasoning before the words and calls of a turn"),
        ({"reasoning": 3}, "reasoning: expected reasoning as text, got int 3; write the thought itself, or leave"),
        (
            {"reasoning": "true"},
            "reasoning: expected reasoning as text, got str 'true', which is no thought; write",
        ),
        ({"reasoning": True}, "reasoning: expected reasoning as text, got bool True; write the thought itself"),
        ({"thinking": "enabled"}, "thinking: expected reasoning as text, got str 'enabled', which is no thought"),
        ({"thinking": {"type": "enabled", "budget_tokens": 9}}, "thinking: expected reasoning as text, got dict"),
        (
            {"reasoning": {"effort": "high"}},
            "reasoning: expected reasoning as text, got dict {'effort': 'high'}",
        ),
        ({"reasoning": [{"type": "image", "text": "r"}]}, "reasoning: expected reasoning as text, got list"),
        (
            {"reasoning": "r", "reasoning_details": [{"type": "reasoning.text", "text": "q"}]},
            "expected one reasoning, got another one in reasoning_details; remove one",
        ),
        (
            {"thinking_blocks": [{"type": "sealed_thinking", "data": "x", "text": "r"}]},
            "thinking_blocks: expected reasoning as text, got list",
        ),
        ({"reasoning_content": " High\n"}, "reasoning_content: expected reasoning as text, got str ' High"),
    ],
)
def test_reasoning_that_would_be_lost_or_moved_is_refused(beside, reason):
    with pytest.raises(RowError, match=reason):
        answer(**beside)


def test_calls_in_both_fields_are_read_where_they_are_the_same():
    call = {"name": "add", "arguments": {"a": 1}}
    calls = [{"id": "c", "type": "function", "function": call}]
    message = answer(tool_calls=calls, function_call={"name": "add", "arguments": '{"a": 1}'})
    assert (message["tool_calls"], "function_call" in message) == (calls, False)
    with pytest.raises(RowError, match="expected tool_calls or function_call, got both; remove one"):
        answer(tool_calls=calls, function_call={"name": "sub", "arguments": {}})


def test_parts_of_reasoning_are_paragraphs():
    parts = [{"type": "summary_text", "text": text} for text in ("One.", "Two.")]
    assert answer(reasoning={"summary": parts})["reasoning_content"] == "One.\n\nTwo."


@pytest.mark.parametrize(
    "nothing",
    [
        "None",
        "null",
        "nan",
        " NaN ",
        [],
        {},
        "N/A",
        ["none"],
        "<think>\nnone\n</think>",
        [{"type": "text", "text": ""}],
        [SEALED],
        {"id": "rs_1", "type": "reasoning", "summary": [], "encrypted_content": "x"},
    ],
)
def test_what_tables_write_for_no_reasoning_is_none(nothing):
    """gpt-oss' template writes an empty channel for a field that is there."""
    assert answer(reasoning_content=nothing) == {"role": "assistant", "content": "A"}


def test_a_turn_whose_reasoning_is_encrypted_alone_has_none():
    assert answer(reasoning_details=[SEALED]) == {"role": "assistant", "content": "A"}


@pytest.mark.parametrize("flag", [["true"], {"content": ["high"]}, "<think>enabled</think>"])
def test_a_flag_in_parts_or_tags_is_no_thought(flag):
    with pytest.raises(RowError, match="which is no thought"):
        answer(reasoning_content=flag)
