"""Spans of templates without marks, from their own loops."""

import time

import pytest
from conftest import CHATML, LLAMA_LIKE, QWEN3_LIKE
from data_helpers import CALL, TOOLS, trained_text
from helpers import chat

from apo_soup.data.conversations.conversation import parse_conversation
from apo_soup.data.rendering.template import ChatTemplate
from apo_soup.data.sources.rows import RowError

MESSAGES = [*chat("One?", "1")["messages"], *chat("Two?", "2")["messages"]]

# It checks the order of turns and the ids of calls, writes no header, and no prompt.
MISTRAL_V3_LIKE = """
{%- set ns = namespace(index=0) -%}
{%- for m in messages -%}{%- if m.role == 'user' or (m.role == 'assistant' and not m.tool_calls) -%}
{%- if (m.role == 'user') != (ns.index % 2 == 0) -%}{{- raise_exception('roles must alternate') -}}{%- endif -%}
{%- set ns.index = ns.index + 1 -%}{%- endif -%}{%- endfor -%}
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{- '[INST] ' + m.content + '[/INST]' -}}
{%- elif m.tool_calls -%}{{- '[TOOL_CALLS] [' -}}
{%- for call in m.tool_calls -%}
{%- if not call.id is defined or call.id | length != 9 -%}
{{- raise_exception('Tool call IDs should be alphanumeric strings with length 9!') -}}{%- endif -%}
{{- call.function | tojson -}}{{- ', ' if not loop.last -}}{%- endfor -%}{{- ']' + eos_token -}}
{%- elif m.role == 'assistant' -%}{{- ' ' + m.content + eos_token -}}
{%- else -%}{{- '[TOOL_RESULTS] ' + m.content + '[/TOOL_RESULTS]' -}}{%- endif -%}
{%- endfor -%}"""

# The length of what is said stands before it, so what stands before an answer depends on the answer.
TELLS_LENGTH = (
    "{{- messages | map(attribute='content') | join | length -}}{%- for m in messages -%}"
    "{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)

BY_INDEX = (
    "{%- for i in range(messages | length) -%}"
    "{{- '<|im_start|>' + messages[i].role + '\n' + messages[i].content + '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)

ROUNDS = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + ' of round ' ~ loop.index ~ '\n' -}}"
    "{{- m.content + '<|im_end|>\n' -}}{%- endfor -%}"
)


def called(name: str, **changes) -> list[dict]:
    call = {**CALL, "id": name}
    return [
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "3", **changes},
        {"role": "assistant", "content": "It is 3"},
    ]


@pytest.mark.parametrize("template", [CHATML, LLAMA_LIKE, QWEN3_LIKE, BY_INDEX, TELLS_LENGTH])
def test_the_text_without_its_marks_is_the_text_that_the_template_writes(template):
    compiled = ChatTemplate(template)
    text, spans = compiled.render_turns(MESSAGES, {})
    assert text == compiled.render(MESSAGES, {})[0]
    assert len(spans) == (0 if template == BY_INDEX else 2)


def test_a_loop_that_is_left_early_still_ends_its_turn():
    template = ChatTemplate(
        "{% for m in messages %}{{ m.role }}: {{ m.content }};{% if m.content == '1' %}{% continue %}{% endif %}"
        "{% if m.content == '2' %}{% break %}{% endif %}+{% endfor %}end"
    )
    text, spans = template.render_turns(MESSAGES, {})
    assert text == "user: One?;+assistant: 1;user: Two?;+assistant: 2;end"
    assert [text[a:b] for a, b in spans] == ["assistant: 1;", "assistant: 2;"]


def test_loops_that_only_look_ahead_mark_nothing():
    """gpt-oss asks, inside the loop over messages, whether a final answer follows."""
    template = ChatTemplate(
        "{% for m in messages %}{{ m.role }}{% for later in messages[loop.index:] %}"
        "{% if later.role == 'assistant' %}{{ '*' }}{% endif %}{% endfor %};{% endfor %}"
    )
    text, spans = template.render_turns(MESSAGES, {})
    assert [text[a:b] for a, b in spans] == ["assistant*;", "assistant;"]


def test_marks_that_stand_in_a_message_are_refused():
    with pytest.raises(RowError, match=r"U\+FDD0"):
        ChatTemplate(CHATML).render_turns([{"role": "user", "content": "a\ufdd0b"}, *MESSAGES[1:]], {})


def test_a_template_that_checks_turns_and_call_ids_is_given_ids_that_it_takes(tokenizer, use):
    row = {"messages": called("callabcde"), "tools": TOOLS}
    call = '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1, "b": 2}}]<|im_end|>'
    assert trained_text(tokenizer, use(MISTRAL_V3_LIKE), row) == [call, " It is 3<|im_end|>"]
    assert trained_text(tokenizer, use(MISTRAL_V3_LIKE), {**row, "messages": called("call_1")})[0] == call


def test_a_header_that_no_prompt_knows_is_left_to_the_probe(tokenizer, use):
    row = {"messages": MESSAGES}
    assert trained_text(tokenizer, use(ROUNDS), row) == ["1<|im_end|>", "2<|im_end|>"]
    assert trained_text(tokenizer, use(BY_INDEX), row) == ["1<|im_end|>", "2<|im_end|>"]


def test_a_template_without_a_loop_that_depends_on_the_answer_is_refused(tokenizer, use):
    depends = BY_INDEX.replace("'\n' + messages[i].content", "'\n' + messages[i].content ~ messages[i - 1].content")
    with pytest.raises(
        RowError, match=r"^chat_template: expected generation marks, or the same text around turn 1 .* marks to it$"
    ):
        trained_text(tokenizer, use(depends), {"messages": MESSAGES})


def test_a_prompt_that_is_not_how_the_text_begins_is_refused(tokenizer, use):
    with pytest.raises(
        RowError, match=r"expected '<\|im_start\|>user.*', with which it asks, before an answer, got '5<\|im"
    ):
        trained_text(tokenizer, use(TELLS_LENGTH), {"messages": MESSAGES})


@pytest.mark.parametrize("template", [CHATML, MISTRAL_V3_LIKE])
def test_a_row_of_many_turns_takes_time_linear_in_its_text(use, template):
    renderer = use(template)
    few, many = ({"messages": MESSAGES * n} for n in (5, 150))
    renderer.conversation(parse_conversation(few, {}))
    started = time.perf_counter()
    assert len(renderer.conversation(parse_conversation(many, {})).spans) == 300
    assert time.perf_counter() - started < 0.5, "two renderings a turn took 3 s"


@pytest.mark.parametrize("written", ["m.content[:8]", "m.content | capitalize if m.content is string else m.content"])
def test_a_list_of_parts_that_is_printed_is_no_form_that_a_template_takes(use, written):
    """A template that shortens or changes texts prints the list itself, which is no answer."""
    template = CHATML.replace("message in", "m in").replace("message.role", "m.role")
    template = template.replace("message.content", written)
    shown = use(template).render([{"role": "user", "content": "?"}, {"role": "assistant", "content": "b"}], {})[0]
    assert "type" not in shown
