"""Templates of model families, as an installed package ships them."""

import pytest
from data_helpers import TOOLS, options, shipped_tokenizer, trained_text

from apo_soup.data.conversations.conversation import parse_conversation
from apo_soup.data.conversations.formats import Format
from apo_soup.data.documents import RowToEncode
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import RowError, SourceRow
from apo_soup.data.sources.source import Source

ASKED = {"role": "user", "content": "1 + 2?"}
CALLED = {
    "role": "assistant",
    "content": "",
    "tool_calls": [{"id": "a1b2c3d4e", "type": "function", "function": {"name": "add", "arguments": {"a": 1}}}],
}
RESULT = {"role": "tool", "content": "3", "name": "add", "tool_call_id": "a1b2c3d4e"}
TOOL_ROW = {"messages": [ASKED, CALLED, RESULT, {"role": "assistant", "content": "It is 3"}], "tools": TOOLS}


def trained(name: str, end: str, row: dict) -> list[str]:
    tokenizer = shipped_tokenizer(name, end)
    return trained_text(tokenizer, Renderer(tokenizer), row)


def answered(*answers: str) -> dict:
    return {"messages": [m for text in answers for m in (ASKED, {"role": "assistant", "content": text})]}


def test_gpt_oss_trains_the_ends_and_channels_that_its_template_writes():
    final = "<|channel|>final<|message|>"
    assert trained("gptoss", "<|return|>", answered("One", "Two")) == [f"{final}One<|end|>", f"{final}Two<|return|>"]
    tools = [{"type": "function", "function": {"name": "add", "description": "", "parameters": {"type": "object"}}}]
    call = ' to=functions.add<|channel|>commentary json<|message|>{"a": 1}<|call|>'
    assert trained("gptoss", "<|return|>", {**TOOL_ROW, "tools": tools}) == [call, f"{final}It is 3<|return|>"]


def test_gpt_oss_trains_its_reasoning_with_both_headers_it_writes_itself():
    row = answered("4")
    row["messages"][1]["reasoning_content"] = "2 + 2"
    expected = "<|channel|>analysis<|message|>2 + 2<|end|><|start|>assistant<|channel|>final<|message|>4<|return|>"
    assert trained("gptoss", "<|return|>", row) == [expected]


@pytest.mark.parametrize("name", ["deepseekv3", "deepseekv3_training"])
def test_deepseek_gets_arguments_in_the_form_it_takes(name):
    call = (
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>add\n```json\n"
        '{"a": 1}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>'
    )
    assert trained(name, "<｜end▁of▁sentence｜>", TOOL_ROW) == [call, "It is 3<｜end▁of▁sentence｜>"]


@pytest.mark.parametrize(
    ("name", "end", "expected"),
    [
        ("cohere2", "<|END_OF_TURN_TOKEN|>", "{}<|END_RESPONSE|><|END_OF_TURN_TOKEN|>"),
        ("gemma3", "<end_of_turn>", "{}<end_of_turn>"),
        ("gemma4_v5", "<turn|>", "{}<turn|>"),
        ("llama3_2", "<|eot_id|>", "{}<|eot_id|>"),
        ("muse_glimmer", "<|eot|>", " to=user<|message|>{}<|eot|>"),
        ("phi3", "<|end|>", "{}<|end|>"),
        ("idefics3", "<end_of_utterance>", " {}<end_of_utterance>"),
        ("qwen2_5", "<|im_end|>", "{}<|im_end|>"),
    ],
)
def test_answers_of_many_families_are_trained_with_their_ends(name, end, expected):
    assert trained(name, end, answered("One", "Two")) == [expected.format("One"), expected.format("Two")]


@pytest.mark.parametrize("name", ["gemma4", "gemma4_v3", "gemma4_v4", "gemma4_v5"])
def test_a_result_inside_the_turn_that_called_is_refused_however_short(name):
    tools = [{"type": "function", "function": {"name": "add", "description": "", "parameters": {}}}]
    with pytest.raises(
        RowError, match=r"expected a tool's result in a turn of its own, got it inside the turn of the assistant"
    ):
        trained(name, "<turn|>", {**TOOL_ROW, "tools": tools})


def test_reasoning_that_was_never_opened_is_refused_unless_the_template_opens_it():
    row = answered("2+2 equals 4.\n</think>\n\nThe answer is 4.")
    encoder = SupervisedEncoder(
        shipped_tokenizer("qwen3_instruct_2507", "<|im_end|>"), options(assistant_only_loss=True)
    )
    shape = Format("messages", ("messages",), lambda fields: fields)
    (result,) = encoder([RowToEncode(Source("rows"), SourceRow("rows:9", row), shape, 1, checked=False)]).results
    assert result.reason == (
        "expected <think> before the </think> of an answer, got none; write <think> before its reasoning"
    )
    expected = "2+2 equals 4.\n</think>\n\nThe answer is 4.<|im_end|>"
    assert trained("qwen3_5_think", "<|im_end|>", row) == [expected]
    assert trained("qwen3", "<|im_end|>", row) == [f"<think>\n{expected}"]


def test_two_think_blocks_in_a_row_are_refused():
    """This template writes an empty block of its own where reasoning stands in the content."""
    with pytest.raises(
        RowError, match=r"expected one think block, got an empty one of the chat template's before the one in"
    ):
        trained("qwen3_8", "<|im_end|>", answered("<think>\nhm\n</think>\n\n4"))


def test_a_prompt_that_opens_a_block_wants_reasoning_and_names_what_helps():
    end = "<｜end▁of▁sentence｜>"
    with pytest.raises(
        RowError, match=r"expected reasoning in the last answer, as the .* opens a .*, got none; add it, or"
    ):
        trained("deepseek_r1_distill", end, answered("4"))
    row = answered("<think>\nhm\n</think>\n\n4")
    with pytest.raises(
        RowError,
        match=r"expected the reasoning of an answer .*, got a text without it; write chat_template: trl, for TRL's",
    ):
        trained("deepseek_r1_distill", end, row)
    assert trained("deepseek_r1_distill_training", end, row) == [f"hm\n</think>\n\n4{end}"]


def test_an_answer_without_an_end_names_what_helps():
    with pytest.raises(RowError, match=r"expected an end of turn such as .*user.* behind the last answer, .*: trl"):
        trained("glm4moe", "<|user|>", answered("4"))
    assert trained("glm4moe_training", "<|user|>", answered("4")) == ["\n4<|user|>"]


def test_a_row_that_says_no_mode_is_in_think_mode_whatever_the_template_takes_it_for():
    """Gemma 4 takes a row without `enable_thinking` for a no-think one, and would ask for its reasoning otherwise."""
    tokenizer = shipped_tokenizer("gemma4_v5", "<turn|>")
    tokenizer.bos_token = "<turn|>"
    row = answered("4")
    row["messages"][1]["reasoning_content"] = "2 + 2"
    renderer = Renderer(tokenizer)
    text = renderer.conversation(parse_conversation(row, {})).text
    assert text.startswith(renderer.prompt(row["messages"][:1], {"enable_thinking": True}))
    assert "<|think|>" in text


# Arguments as text, and calls only in turns whose content is none, as DeepSeek V2.5 has it.
NONE_AND_TEXT = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' -}}"
    "{%- if m.content is none -%}"
    "{%- for c in m.tool_calls -%}{{- c.function.name + c.function.arguments -}}{%- endfor -%}"
    "{%- else -%}{{- m.content -}}{%- endif -%}{{- '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
# It writes a mapping as Python does, where it gets one.
AS_IT_IS = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' + m.content -}}"
    "{%- for c in m.tool_calls or [] -%}{{- c.function.name -}}{{- c.function.arguments -}}{%- endfor -%}"
    "{{- '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)


@pytest.mark.parametrize("template", [NONE_AND_TEXT, AS_IT_IS])
def test_arguments_are_json_whatever_a_template_does_with_them(tokenizer, use, template):
    assert trained_text(tokenizer, use(template), TOOL_ROW) == ['add{"a": 1}<|im_end|>', "It is 3<|im_end|>"]
