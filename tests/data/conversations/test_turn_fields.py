"""What the fields of a row and of its turns say beside the words: flags that mask a turn, calls, and what is unread."""

import json

import pytest
from conftest import QWEN3_LIKE
from data_helpers import CALL, ROWS, options, parsed_row, prepared, trained_ids
from hypothesis import given
from hypothesis import strategies as st

from apo_soup.data.conversations.conversation import parse_conversation
from apo_soup.data.conversations.turn_fields import LOSS_FLAGS
from apo_soup.data.encode_supervised import spans_with_loss
from apo_soup.data.sources.rows import RowError

DIALECTS = {
    "messages": ("role", "content", {"user": "user", "assistant": "assistant"}),
    "conversations": ("from", "value", {"user": "human", "assistant": "gpt"}),
}


def two_answers(field: str, *flags: dict) -> dict:
    """Two questions with an answer each, BAD then GOOD, and fields beside each answer."""
    role, content, speakers = DIALECTS[field]
    turns = []
    for word, beside in zip(("BAD", "GOOD"), flags, strict=True):
        turns.append({role: speakers["user"], content: f"{word}?"})
        turns.append({role: speakers["assistant"], content: word, **beside})
    return {field: turns, "chat_template_kwargs": {"enable_thinking": False}}


def trained(use, row: dict, template: str | None = None, **changes) -> list[str]:
    _, item = parsed_row(row)
    text, spans = spans_with_loss(item, use(template), options(**{"assistant_only_loss": True, **changes}))
    return [text[start:end] for start, end in spans]


@pytest.mark.parametrize("template", [None, QWEN3_LIKE], ids=["ours", "qwen3"])
@pytest.mark.parametrize("field", DIALECTS)
@pytest.mark.parametrize("flag", LOSS_FLAGS)
def test_a_flagged_turn_is_context_and_not_trained(use, flag, field, template):
    for no, yes in ((False, True), (0, 1), (0.0, 1.0)):
        row = two_answers(field, {flag: no}, {flag: yes})
        assert trained(use, row, template) == ["GOOD<|im_end|>"]
        assert trained(use, two_answers(field, {flag: no}, {flag: None}), template) == ["GOOD<|im_end|>"]
    assert trained(use, two_answers(field, {flag: True}, {}), template) == ["BAD<|im_end|>", "GOOD<|im_end|>"]


def test_where_all_of_a_row_is_trained_a_flagged_turn_is_left_out_of_it(use):
    row = two_answers("messages", {"weight": 0}, {})
    before, after = trained(use, row, assistant_only_loss=False)
    text = use(None).text(parsed_row(row)[1])
    assert before + "BAD<|im_end|>" + after == text
    row["messages"][0]["train"] = False
    with pytest.raises(RowError, match="got one that masks another turn; write assistant_only_loss: true"):
        trained(use, row, assistant_only_loss=False)
    assert trained(use, row) == ["GOOD<|im_end|>"]


@pytest.mark.parametrize("value", ["no", 2, -1, 0.5, [0, 1], {}, "0"])
def test_a_flag_that_is_neither_yes_nor_no_is_refused(value):
    with pytest.raises(RowError, match=r"field messages\[1\].loss_scale: expected true, false, 0 or 1, got"):
        parsed_row(two_answers("messages", {"loss_scale": value}, {}))


def test_flags_that_disagree_or_leave_nothing_are_refused(use):
    with pytest.raises(RowError, match="expected flags that agree, got weight 0, train True"):
        parsed_row(two_answers("messages", {"weight": 0, "train": True}, {}))
    with pytest.raises(RowError, match="expected a turn that is trained, got flags that mask every one"):
        parsed_row(two_answers("messages", {"weight": 0}, {"weight": 0}))
    row = {"prompt": two_answers("messages", {}, {})["messages"][:3]}
    masked = {**row, "completion": [{"role": "assistant", "content": "4", "weight": 0}]}
    with pytest.raises(RowError, match="expected a turn that is trained, got flags that mask every one"):
        trained(use, masked)
    pair = {**row, "chosen": [{"role": "assistant", "content": "4", "weight": 0}], "rejected": "5"}
    with pytest.raises(RowError, match="field chosen: expected an answer that is trained, got a flag that masks it"):
        parsed_row(pair, pairs=True)


@given(st.lists(st.sampled_from([None, 0, 1]), min_size=1, max_size=6).filter(lambda flags: set(flags) != {0}))
def test_the_trained_spans_are_those_of_the_turns_that_no_flag_masks(tokenizer, flags):
    from apo_soup.data.rendering.trained_spans import Renderer

    turns = []
    for number, flag in enumerate(flags):
        turns.append({"role": "user", "content": f"Question {number}"})
        turns.append({"role": "assistant", "content": f"Answer {number}", "weight": flag})
    item = parse_conversation({"messages": turns, "chat_template_kwargs": {"enable_thinking": False}}, {})
    text, spans = spans_with_loss(item, Renderer(tokenizer), options(assistant_only_loss=True))
    kept = [f"Answer {number}<|im_end|>" for number, flag in enumerate(flags) if flag != 0]
    assert [text[start:end] for start, end in spans] == kept


def test_a_prepared_row_is_trained_on_its_unmasked_turns_alone(training_recipe, tokenizer):
    row = two_answers("messages", {"weight": 0}, {"weight": 1})
    _, splits, stats = prepared(training_recipe([*ROWS[:300], row], packing=False))
    (found,) = [r for r in splits["train"] if "BAD?" in tokenizer.decode(r["input_ids"])]
    assert tokenizer.decode(trained_ids(found["input_ids"], found["trained_ranges"])) == "GOOD<|im_end|>"
    assert stats["unread_fields"] == []


def test_calls_in_sharegpt_of_the_other_dialect_are_read_as_in_messages():
    turns = [
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": "Looking.", "tool_calls": [CALL], "reasoning_content": "hm"},
        {"role": "tool", "content": "3", "tool_call_id": "x", "name": "add"},
        {"role": "assistant", "content": "3"},
    ]
    assert parsed_row({"conversations": turns})[1].messages == parsed_row({"messages": turns})[1].messages
    pair = {"chosen": {"role": "assistant", "content": "3"}, "rejected": {"role": "assistant", "content": "4"}}
    _, item = parsed_row({"conversations": turns[:3], **pair}, pairs=True)
    assert item.prompt[1]["tool_calls"] == [CALL]
    assert item.prompt[1]["reasoning_content"] == "hm"


def test_openais_older_calls_are_calls():
    turns = [
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": '{"a": 1, "b": 2}'}},
        {"role": "function", "name": "add", "content": "3"},
        {"role": "assistant", "content": "3", "function_call": None, "tool_calls": []},
    ]
    _, item = parsed_row({"messages": turns})
    assert item.messages[1]["tool_calls"] == [CALL]
    assert [m["role"] for m in item.messages] == ["user", "assistant", "tool", "assistant"]
    assert not {"function_call", "tool_calls"} & item.messages[3].keys()
    turns[1]["tool_calls"] = [{**CALL, "function": {"name": "sub", "arguments": {}}}]
    with pytest.raises(RowError, match="expected tool_calls or function_call, got both; remove one"):
        parsed_row({"messages": turns})


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"a": 1}, {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        (json.dumps('{"a": 1}'), {"a": 1}),
        ({}, {}),
        ("{}", {}),
        ('"x"', None),
        ("[1]", None),
        ([1], None),
        ("3", None),
        ("null", {}),
        ('{"a": NaN}', None),
        ('{"a": Infinity}', None),
        ("", {}),
        (json.dumps(json.dumps(json.dumps({"a": 1}))), None),
    ],
)
def test_arguments_are_a_mapping_decoded_once_more_where_that_gives_one(written, read):
    call = {"type": "function", "function": {"name": "f", "arguments": written}}
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    if read is None:
        with pytest.raises(RowError, match=r"tool_calls\[0\].function.arguments: expected"):
            parsed_row({"messages": turns})
    else:
        assert parsed_row({"messages": turns})[1].messages[1]["tool_calls"][0]["function"]["arguments"] == read


def test_text_parts_are_one_text_and_a_developer_is_the_system():
    turns = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What"}, {"type": "text", "text": "?"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "That."}]},
    ]
    messages = parsed_row({"messages": turns})[1].messages
    assert [(m["role"], m["content"]) for m in messages] == [
        ("system", "Be brief."), ("user", "What?"), ("assistant", "That."),
    ]  # fmt: skip
    turns[1]["content"].append({"type": "image_url", "image_url": {"url": "x"}})
    with pytest.raises(RowError, match=r"field messages\[1\].content\[2\]: expected a part of type text, got"):
        parsed_row({"messages": turns})


def test_calls_in_turns_of_their_own_are_one_turn_where_their_flags_agree():
    calls = [{"from": "function_call", "value": json.dumps(CALL["function"]), "weight": 0} for _ in range(2)]
    turns = [{"from": "human", "value": "1 + 2?"}, *calls, {"from": "observation", "value": "3"}]
    row = {"conversations": [*turns, {"from": "gpt", "value": "3"}]}
    before = json.dumps(row)
    for _ in range(2):
        _, item = parsed_row(row)
        assert item.messages[1]["tool_calls"] == [CALL, CALL]
        assert item.masked_turns == {0}
    assert json.dumps(row) == before
    del calls[1]["weight"]
    with pytest.raises(RowError, match=r"conversations\[2\]: expected the flags of the turn before it, got others"):
        parsed_row(row)


def test_a_call_behind_calls_of_the_other_dialect_leaves_the_row_as_it_is():
    own = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    more = {"from": "function_call", "value": json.dumps(CALL["function"])}
    row = {"conversations": [{"role": "user", "content": "?"}, own, more, {"from": "gpt", "value": "3"}]}
    row["conversations"].insert(3, {"from": "observation", "value": "3"})
    before = json.dumps(row)
    assert parsed_row(row)[1].messages[1]["tool_calls"] == [CALL, CALL]
    assert json.dumps(row) == before
    own["tool_calls"] = "none"
    with pytest.raises(RowError, match="expected"):
        parsed_row(row)


@pytest.mark.parametrize("row", [{"prompt": "q", "completion": "a"}, {"instruction": "q", "output": "a"}])
def test_a_system_that_is_no_text_is_refused(row):
    with pytest.raises(RowError, match="field system: expected text, got int 5"):
        parsed_row({**row, "system": 5})


def test_a_key_that_says_two_things_in_a_text_of_json_is_refused():
    messages = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    with pytest.raises(RowError, match="field messages: expected a list of turns, got str"):
        parsed_row({"messages": json.dumps(messages).replace('"content": "a"', '"content": "a", "content": "b"')})
    call = {"type": "function", "function": {"name": "f", "arguments": '{"a": 1, "a": 2}'}}
    with pytest.raises(RowError, match=r"arguments: expected JSON, got .*got a twice"):
        parsed_row({"messages": [messages[0], {"role": "assistant", "content": "", "tool_calls": [call]}]})
    text = '{"enable_thinking": true, "enable_thinking": false}'
    with pytest.raises(RowError, match="got enable_thinking twice"):
        parsed_row({"messages": messages, "chat_template_kwargs": text})
