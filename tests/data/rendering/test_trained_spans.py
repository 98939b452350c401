"""What is trained, as text, for seven templates in both modes."""

import json

import pytest
from conftest import QWEN3_LIKE
from data_helpers import CALL, TEMPLATES, THOUGHT, TOOLS, published_template, trained_text
from helpers import chat


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("think", [True, False])
def test_trained_spans_are_the_assistants_own_words(tokenizer, use, name, think):
    row = chat("What is 2 + 2?", THOUGHT if think else "4", think)
    expected = THOUGHT if think else "4"
    if name == "qwen3" and think:
        expected = expected.replace("</think>\n", "</think>\n\n")  # it writes the block its own way
    assert trained_text(tokenizer, use(TEMPLATES[name]), row) == [f"{expected}<|im_end|>"]


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("think", [True, False])
def test_every_assistant_turn_is_trained(tokenizer, use, name, think):
    row = chat("One?", "1", think)
    row["messages"] += chat("Two?", "22")["messages"]
    assert trained_text(tokenizer, use(TEMPLATES[name]), row) == ["1<|im_end|>", "22<|im_end|>"]


def test_a_template_that_strips_old_reasoning_trains_what_is_left_of_it(tokenizer, use):
    row = chat("One?", THOUGHT, True)
    row["messages"] += chat("Two?", THOUGHT)["messages"]
    last = THOUGHT.replace("</think>\n", "</think>\n\n")
    assert trained_text(tokenizer, use(QWEN3_LIKE), row) == ["4<|im_end|>", f"{last}<|im_end|>"]


CALLED = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'


@pytest.mark.parametrize(("name", "column"), [("ours", "xml_tools"), ("ours", "tools"), ("qwen3", "tools")])
def test_tool_calls_are_trained_and_tool_results_are_not(tokenizer, use, name, column):
    messages = [
        {"role": "user", "content": "Use the tool: 1 + 2?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "It is 3"},
    ]
    row = {"messages": messages, column: TOOLS, "chat_template_kwargs": {"enable_thinking": False}}
    assert trained_text(tokenizer, use(TEMPLATES[name]), row) == [f"{CALLED}<|im_end|>", "It is 3<|im_end|>"]


def test_call_arguments_written_as_json_text_render_as_mappings_do(tokenizer, use):
    written = {"function": {"name": "add", "arguments": json.dumps(CALL["function"]["arguments"])}}
    for call in (CALL, written):
        messages = [{"role": "user", "content": "1 + 2?"}, {"role": "assistant", "tool_calls": [call]}]
        row = {"messages": messages, "chat_template_kwargs": {"enable_thinking": False}}
        assert trained_text(tokenizer, use(None), row) == [f"{CALLED}<|im_end|>"]


def test_reasoning_content_is_rendered_and_trained_in_think_mode(tokenizer, use):
    row = chat("2 + 2?", "4", True)
    row["messages"][1]["reasoning_content"] = "2 + 2 = 4"
    assert trained_text(tokenizer, use(None), row) == [f"{THOUGHT}<|im_end|>"]


@pytest.mark.parametrize(
    ("system", "kwargs"), [("Be kind. /no_think", {}), ("See docs/thinking.", {"enable_thinking": False})]
)
def test_headers_are_cut_off_whatever_decides_the_mode(tokenizer, use, system, kwargs):
    row = chat("Q", "Yo")
    row["messages"].insert(0, {"role": "system", "content": system})
    row["chat_template_kwargs"] = kwargs
    assert trained_text(tokenizer, use(published_template()), row) == ["Yo<|im_end|>"]


# Behind a tool's result it writes no header, as Gemma 4's does.
HEADER_BEHIND_USERS = """{%- for m in messages -%}
{%- set behind_tool = not loop.first and messages[loop.index0 - 1].role == 'tool' -%}
{%- if m.role == 'assistant' and behind_tool -%}{{ '\\n>>\\n' }}
{%- elif m.role == 'assistant' -%}{{ '<|im_start|>assistant\\n' }}
{%- else -%}{{ '<|im_start|>' + m.role + '\\n' }}{%- endif -%}{{ m.content }}
{%- for call in m.tool_calls or [] -%}{{ call.function.name }}{{ call.function.arguments | tojson }}{%- endfor -%}
{{ '<|im_end|>\\n' }}{%- endfor -%}
{%- if add_generation_prompt and messages[-1].role == 'tool' -%}{{ '\\n>>\\n' }}
{%- elif add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}{%- endif -%}"""


def test_an_answer_that_begins_the_row_has_the_header_of_one_behind_a_question(tokenizer, use):
    messages = [
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "It is 3."},
    ]
    said = ["Hello.<|im_end|>", 'add{"a": 1, "b": 2}<|im_end|>', "It is 3.<|im_end|>"]
    renderer = use(HEADER_BEHIND_USERS)
    assert renderer.frames.behind_user != renderer.frames.behind_tool
    assert trained_text(tokenizer, renderer, {"messages": messages}) == said
    assert trained_text(tokenizer, renderer, {"messages": messages[1:]}) == said[1:]
