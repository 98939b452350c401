"""Contents that are lists of parts: text, reasoning, calls and results, and what is refused of them."""

import pytest
from data_helpers import CALL, parsed_row

from apo_soup.data.sources.rows import RowError


def text(words: str, **beside) -> dict:
    return {"type": "text", "text": words, **beside}


ASK = {"role": "user", "content": "1 + 2?"}
USE = {"type": "tool_use", "id": "toolu_1", "name": "add", "input": {"a": 1, "b": 2}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": [text("3")]}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
FUNCTION = {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": SCHEMA}}


def test_anthropics_blocks_become_turns_calls_and_reasoning():
    row = {
        "system": [text("Be brief.", cache_control={"type": "ephemeral"})],
        "tools": [{"name": "add", "description": "Adds.", "input_schema": SCHEMA}],
        "messages": [
            ASK,
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "Hm.", "signature": "x"}, text("Wait."), USE],
            },
            {"role": "user", "content": [RESULT, text("And?")]},
            {"role": "assistant", "content": [text("3")]},
        ],
    }
    _, item = parsed_row(row)
    call = {"id": "toolu_1", **CALL}
    assert item.messages == [
        {"role": "system", "content": "Be brief."},
        ASK,
        {
            "role": "assistant", "content": "Wait.", "tool_calls": [call],
            "reasoning_content": "Hm.", "thinking": "Hm.",
        },
        {"role": "tool", "content": "3", "tool_call_id": "toolu_1"},
        {"role": "user", "content": "And?"},
        {"role": "assistant", "content": "3"},
    ]  # fmt: skip
    assert item.kwargs["tools"] == [FUNCTION]


def test_geminis_parts_are_calls_results_and_thoughts():
    called = {"functionCall": {"name": "add", "args": {"a": 1, "b": 2}}, "thoughtSignature": "x"}
    row = {
        "messages": [
            {"role": "user", "parts": [text("1 + 2?")]},
            {"role": "model", "parts": [{"text": "Hm.", "thought": True}, {"text": "Wait."}, called]},
            {"role": "function", "parts": [{"functionResponse": {"name": "add", "response": {"sum": 3}}}]},
            {"role": "model", "parts": [{"text": "3"}]},
        ],
    }
    _, asked, result, answer = parsed_row(row)[1].messages
    assert (asked["content"], asked["reasoning_content"], asked["tool_calls"]) == ("Wait.", "Hm.", [CALL])
    assert result == {"role": "tool", "content": '{"sum": 3}', "name": "add"}
    assert answer == {"role": "assistant", "content": "3"}


def test_parts_of_other_dialects_are_text_and_reasoning():
    row = {
        "messages": [
            {"role": "user", "content": [{"type": "input_text", "text": "1"}, " + 2?"]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": [text("Hm.")]},
                {"type": "output_text", "text": "3", "annotations": []},
            ]},
        ]
    }  # fmt: skip
    question, answer = parsed_row(row)[1].messages
    assert question == ASK
    assert (answer["content"], answer["reasoning_content"]) == ("3", "Hm.")


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (
            {"type": "image_url", "image_url": {"url": "x"}},
            "got image_url, and only text is trained; remove the part, or",
        ),
        ({"type": "input_audio"}, "got input_audio, and only text is trained"),
        ({"type": "document", "source": {}}, "got document, and only text is trained"),
        ({"type": "redacted_thinking", "data": "x"}, "got redacted_thinking, which holds no words; remove it to train"),
        (
            {"type": "server_tool_use", "name": "search"},
            "got server_tool_use, which nothing here reads; write it as text",
        ),
        ({"type": "text"}, "expected text in the part, got NoneType None; correct it"),
        ({"type": "text", "text": 3}, "expected text in the part, got int 3; correct it"),
        ({"type": "thinking", "thinking": {}}, "expected text in the part, got dict {}; correct it"),
        ({"type": "tool_use", "input": {}}, r"\.name: expected the name of a tool, got NoneType None; correct it"),
        (RESULT, "expected a tool_result in a user turn, got one in an assistant turn; move it"),
        (text("a", weight=0), r"\.weight: expected a flag on the whole turn, got one on a part of it; move it there"),
        (None, "got NoneType None; write {type: text, text: ...}"),
        ({"kind": "text"}, "got dict {'kind': 'text'}; write {type: text, text: ...}"),
    ],
)
def test_a_part_that_cannot_be_trained_is_refused_with_its_place(part, reason):
    row = {"messages": [ASK, {"role": "assistant", "content": [text("3"), part]}]}
    with pytest.raises(RowError, match=r"field messages\[1\].content\[1\].*" + reason):
        parsed_row(row)


def test_what_stands_in_the_wrong_order_or_turn_is_refused():
    for content, reason in (
        ([USE, text("late")], r"content\[1\]: expected text before the calls of a turn, got text behind one"),
        ([{**USE, "input": "[1]"}], r"function.arguments: expected a mapping of arguments, got str '\[1\]'"),
    ):
        with pytest.raises(RowError, match=reason):
            parsed_row({"messages": [ASK, {"role": "assistant", "content": content}]})
    with pytest.raises(
        RowError, match=r"messages\[0\].content\[0\]: .*, got thinking in a user turn; move it to the turn"
    ):
        parsed_row({"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "Hm."}]}]})
    both = {"role": "assistant", "content": [USE], "tool_calls": [CALL]}
    with pytest.raises(RowError, match="expected calls in the content or in tool_calls, got both; remove one"):
        parsed_row({"messages": [ASK, both]})


def test_flags_stay_with_their_turn_and_what_a_part_says_beside_is_counted():
    from apo_soup.data.conversations.unread import unread_fields

    answer = {"role": "assistant", "content": [text("3", mood="glad")], "weight": 0}
    row = {
        "messages": [ASK, answer, {"role": "user", "content": [{**RESULT, "is_error": True}]}, {**answer, "weight": 1}]
    }
    row["messages"][1]["content"].append(USE)
    _, item = parsed_row(row)
    assert item.masked_turns == {0}
    assert unread_fields(row, item.messages, frozenset(row)) == {"turns.content.mood", "turns.is_error"}


def test_every_way_of_declaring_a_tool_is_a_function_schema():
    flat = {"type": "function", **FUNCTION["function"], "strict": True}
    bare = {"name": "add", "parameters": SCHEMA}
    for tool, read in (
        ({"name": "add", "description": "Adds.", "input_schema": SCHEMA}, FUNCTION),
        (flat, FUNCTION),
        (FUNCTION, FUNCTION),
        (bare, bare),
    ):
        row = {"messages": [ASK, {"role": "assistant", "content": "3"}], "tools": [tool]}
        assert parsed_row(row)[1].kwargs["tools"] == [read]


def test_several_bare_texts_of_an_answer_may_be_several_answers():
    question = {"role": "user", "content": ["1 + 2?"]}
    _, item = parsed_row({"messages": [question, {"role": "assistant", "content": ["3"]}]})
    assert [m["content"] for m in item.messages] == ["1 + 2?", "3"]
    with pytest.raises(RowError, match=r"messages\[1\].content: expected parts that say what they are, .* got 2 texts"):
        parsed_row({"messages": [question, {"role": "assistant", "content": ["3", "three"]}]})


def test_several_bare_texts_are_not_joined_in_any_turn_or_column():
    answer = {"role": "assistant", "content": "3"}
    called = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    result = {"role": "tool", "content": ["3", "4"]}
    for row, place in (
        ({"messages": [{"role": "user", "content": ["1 +", "2?"]}, answer]}, r"field messages\[0\].content"),
        ({"messages": [ASK, called, result, answer]}, r"field messages\[2\].content"),
        ({"messages": [ASK, answer], "system": ["Be", "brief."]}, "field system"),
    ):
        with pytest.raises(
            RowError, match=rf"{place}: expected parts that say what they are, or one text, got 2 texts"
        ):
            parsed_row(row)


@pytest.mark.parametrize("mark", ["<tool_call>", "<function=add>", "[TOOL_CALLS]"])
def test_a_call_in_the_content_beside_tool_calls_is_refused(mark):
    turn = {"role": "assistant", "content": f"{mark}add", "tool_calls": [CALL]}
    with pytest.raises(RowError, match=r"messages\[1\]: expected calls in tool_calls or in the content, got .* beside"):
        parsed_row({"messages": [ASK, turn]})
    turn["content"] = f"<think>{mark} is how I call</think>Looking."
    assert parsed_row({"messages": [ASK, turn]})[1].answers[0]["tool_calls"] == [CALL]
