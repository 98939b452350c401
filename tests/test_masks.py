"""What is trained, as text, for six templates in both modes."""

import pytest
from conftest import CHATML, LLAMA_LIKE
from helpers import chat

from corpus.conversation import conversation
from corpus.gate import Sample, check_samples
from corpus.mask import Rendered, Renderer, token_mask
from corpus.rows import RowError
from corpus.tokenizer import encode
from pipeline.errors import UserError
from pipeline.recipe import read_yaml

ASSISTANT = "<|im_start|>assistant\n"
STRIPS_OLD_REASONING = (
    "{%- for m in messages -%}{%- set text = m.content.split('</think>')[-1] if not loop.last else m.content -%}"
    "{{- '<|im_start|>' + m.role + '\n' + text + '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
THOUGHT = "<think>\n2 + 2 = 4\n</think>\n4"


def trained_text(tokenizer, template, row, defaults=None) -> list[str]:
    """The trained spans of a row, decoded from the tokens that the mask keeps."""
    original = tokenizer.chat_template
    tokenizer.chat_template = template or original
    try:
        renderer = Renderer(tokenizer)
        rendered = renderer.conversation(conversation(row, defaults or {}))
    finally:
        tokenizer.chat_template = original
    encoding = encode(tokenizer, [rendered.text])[0]
    mask = token_mask(encoding.offsets, rendered.spans)
    out = []
    for start, end in rendered.spans:
        kept = [i for i, (o, m) in enumerate(zip(encoding.offsets, mask, strict=True)) if m and start <= o[0] < end]
        assert kept == list(range(kept[0], kept[-1] + 1)), "a trained span has no holes"
        out.append(tokenizer.decode([encoding.ids[i] for i in kept]))
    assert sum(mask) == sum(len(tokenizer(t, add_special_tokens=False).input_ids) for t in out)
    return out


def handbook_template():
    from helpers import ROOT

    return read_yaml(ROOT / "tests" / "handbook" / "sft.yaml")[0]["chat_template"]


@pytest.mark.parametrize("name", ["ours", "chatml", "llama", "published"])
@pytest.mark.parametrize("think", [True, False])
def test_trained_spans_are_the_assistants_own_words(tokenizer, name, think):
    template = {"ours": None, "chatml": CHATML, "llama": LLAMA_LIKE, "published": handbook_template()}[name]
    answer = THOUGHT if think else "4"
    row = chat("What is 2 + 2?", answer, think)
    assert trained_text(tokenizer, template, row) == [f"{answer}<|im_end|>"]


@pytest.mark.parametrize("name", ["ours", "chatml", "llama", "published"])
def test_every_assistant_turn_is_trained(tokenizer, name):
    template = {"ours": None, "chatml": CHATML, "llama": LLAMA_LIKE, "published": handbook_template()}[name]
    row = chat("One?", "1", False)
    row["messages"] += chat("Two?", "22")["messages"]
    assert trained_text(tokenizer, template, row) == ["1<|im_end|>", "22<|im_end|>"]


def test_tool_calls_are_trained_and_tool_results_are_not(tokenizer):
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
    messages = [
        {"role": "user", "content": "Use the tool: 1 + 2?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "It is 3"},
    ]
    tools = [{"name": "add", "parameters": {"a": "integer"}}]
    row = {"messages": messages, "xml_tools": tools, "chat_template_kwargs": {"enable_thinking": False}}
    assert trained_text(tokenizer, None, row) == [
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call><|im_end|>',
        "It is 3<|im_end|>",
    ]


def test_reasoning_content_is_rendered_and_trained_in_think_mode(tokenizer):
    row = chat("2 + 2?", "4", True)
    row["messages"][1]["reasoning_content"] = "2 + 2 = 4"
    assert trained_text(tokenizer, None, row) == [f"{THOUGHT}<|im_end|>"]


def test_a_template_that_rewrites_old_turns_is_refused_with_the_reason(tokenizer):
    row = chat("One?", THOUGHT, True)
    row["messages"] += chat("Two?", THOUGHT)["messages"]
    with pytest.raises(RowError, match="no generation marks and turn 1 renders differently"):
        trained_text(tokenizer, STRIPS_OLD_REASONING, row)
    assert trained_text(tokenizer, STRIPS_OLD_REASONING, chat("One?", THOUGHT)) == [f"{THOUGHT}<|im_end|>"]


def rendered(tokenizer, messages, **kwargs) -> str:
    return Renderer(tokenizer).render(messages, kwargs)[0]


def test_our_template_modes(tokenizer):
    user = {"role": "user", "content": "Hi"}
    plain = rendered(tokenizer, [user])
    assert (
        plain == "<|im_start|>system\n## Metadata\n\nReasoning Mode: /think<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
    )
    assert "/no_think" in rendered(tokenizer, [user], enable_thinking=False)
    flagged = rendered(tokenizer, [{"role": "system", "content": "Be kind. /no_think"}, user])
    assert "Reasoning Mode: /no_think\n\n## Custom Instructions\n\nBe kind.<|im_end|>" in flagged
    override = rendered(tokenizer, [{"role": "system", "content": "Only this. /system_override"}, user])
    assert override.startswith("<|im_start|>system\nOnly this.<|im_end|>\n")
    dated = rendered(tokenizer, [user], date_string="01 July 2025", knowledge_cutoff="June 2025")
    assert "Knowledge Cutoff Date: June 2025\nToday Date: 01 July 2025\n" in dated
    tooled = rendered(tokenizer, [user], python_tools=["def f(): ..."], xml_tools=[{"name": "g"}])
    assert '<tools>\n{"name": "g"}\n</tools>' in tooled
    assert "<tools>\ndef f(): ...\n</tools>" in tooled


def test_generation_prompt_prefills_the_empty_block_only_without_thinking(tokenizer):
    renderer, user = Renderer(tokenizer), [{"role": "user", "content": "Hi"}]
    assert renderer.prompt(user, {"enable_thinking": True}).endswith(ASSISTANT)
    assert renderer.prompt(user, {"enable_thinking": False}).endswith(ASSISTANT + "<think>\n\n</think>\n")


DATED = "{{- 'Today: ' + strftime_now('%d %B %Y') + '\n' -}}" + CHATML


def test_a_template_that_asks_for_the_day_is_told_a_fixed_one(tokenizer):
    original = tokenizer.chat_template
    tokenizer.chat_template = DATED
    try:
        renderer, user = Renderer(tokenizer), [{"role": "user", "content": "Hi"}]
        assert renderer.render(user, {})[0].startswith("Today: 01 July 2025\n")
        assert renderer.render(user, {"date_string": "2 May 2026"})[0].startswith("Today: 2 May 2026\n")
    finally:
        tokenizer.chat_template = original


@pytest.mark.parametrize(
    ("system", "kwargs"), [("Be kind. /no_think", {}), ("See docs/thinking.", {"enable_thinking": False})]
)
def test_headers_are_cut_off_whatever_decides_the_mode(tokenizer, system, kwargs):
    row = chat("Q", "Yo")
    row["messages"].insert(0, {"role": "system", "content": system})
    row["chat_template_kwargs"] = kwargs
    assert trained_text(tokenizer, handbook_template(), row) == ["Yo<|im_end|>"]


def test_custom_instructions_reach_the_prompt(tokenizer):
    text = rendered(tokenizer, [{"role": "user", "content": "Hi"}], custom_instructions="Talk like a pirate.")
    assert "## Custom Instructions\n\nTalk like a pirate.<|im_end|>" in text
    assert Renderer(tokenizer).unread({"custom_instructions", "enable_thinking", "colour"}) == {"colour"}


def gate(item, text, trained, whole=False):
    check_samples([Sample("s", "f:1", conversation(item, {}), Rendered(text, []), trained)], "<|im_end|>", whole)


def test_the_gate_passes_good_rows_and_names_each_fault():
    good = chat("Q", THOUGHT, True)
    gate(good, "text", [f"{THOUGHT}<|im_end|>"])
    with pytest.raises(UserError, match="source s, row f:1: no token of this row is trained"):
        gate(good, "text", [""])
    with pytest.raises(UserError, match="the empty think block that the template prefills is trained"):
        gate(chat("Q", "4", False), "text", ["<think>\n\n</think>\n4<|im_end|>"])
    with pytest.raises(UserError, match="end-of-turn token"):
        gate(good, "text", [THOUGHT])
    with pytest.raises(UserError, match="think row trains on no reasoning"):
        gate(chat("Q", "4", True), "text", ["4<|im_end|>"])
    with pytest.raises(UserError, match="no-think row trains on reasoning"):
        gate(chat("Q", THOUGHT, False), "text", [f"{THOUGHT}<|im_end|>"])
    question = "a question that is long enough to be recognised in the trained text"
    with pytest.raises(UserError, match="the text of a user turn is trained"):
        gate(chat(question, "4", False), "text", [f"{question} 4<|im_end|>"])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "x"}, "field messages is missing; the row has text"),
        ({"messages": "x"}, "field messages: expected a list of turns, found str 'x'"),
        ({"messages": [{"role": "user", "content": 3}]}, r"messages\[0\].content: expected text, found int 3"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "expected one of system, user, assistant, tool, found 'bot'"),
        (chat("Q", " "), r"messages\[1\].content: the assistant turn is empty"),
        (chat("Q", "<think>\nno end"), "the think block is opened and never closed"),
        ({"messages": chat("Q", "A")["messages"][:1]}, "no assistant turn"),
        ({**chat("Q", "A"), "chat_template_kwargs": 3}, "expected a mapping, found int"),
    ],
)
def test_a_bad_row_names_field_and_finding(row, reason):
    with pytest.raises(RowError, match=reason):
        conversation(row, {})
