"""Templates that write headers, ends of turn and tool results in other ways."""

from pathlib import Path

import pytest
from data_helpers import CALL, THOUGHT, TOOLS, options, trained_text, trained_turns
from helpers import chat

from apo_soup.data.checks.row_faults import row_fault
from apo_soup.data.conversations.conversation import parse_conversation
from apo_soup.data.conversations.formats import Format
from apo_soup.data.documents import Refused, RowToEncode
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.data.sources.rows import SourceRow
from apo_soup.data.sources.source import Source

LAST_ENDS_OTHERWISE = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' + m.content -}}"
    "{{- '<|im_end|>\n' if loop.last or m.role == 'user' else '\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)


MISTRAL_LIKE = (
    "{%- for m in messages -%}{%- if m.role == 'user' -%}{{- '[INST] ' + m.content + '[/INST]' -}}"
    "{%- else -%}{{- ' ' + m.content + '<|im_end|>' -}}{%- endif -%}{%- endfor -%}"
)


OPENS_THINK = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n<think>\n' -}}{%- endif -%}"
    "{#- enable_thinking -#}"
)


# A header that ends in a space, which byte-level tokenizers join to the word behind it.
ENDS_IN_SPACE = (
    "{%- for m in messages -%}{{- m.role + ': ' + m.content + '<|im_end|>' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- 'assistant: ' -}}{%- endif -%}"
)


INNER_MARKS = (
    "{%- for m in messages -%}{%- if m.role == 'assistant' -%}{{- '<|im_start|>assistant\n' -}}{%- generation -%}"
    "{{- ('<think>\n\n</think>\n' if enable_thinking is false else '') + m.content + '<|im_end|>' -}}"
    "{%- endgeneration -%}{{- '\n' -}}"
    "{%- else -%}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}"
    "{{- '<think>\n\n</think>\n' if enable_thinking is false else '' -}}{%- endif -%}"
)


@pytest.mark.parametrize(
    ("template", "answer", "think", "expected"),
    [
        (MISTRAL_LIKE, "It is 4", False, " It is 4<|im_end|>"),
        (OPENS_THINK, THOUGHT, True, "2 + 2 = 4\n</think>\n4<|im_end|>"),
        (INNER_MARKS, "4", False, "4<|im_end|>"),
        (INNER_MARKS, THOUGHT, True, f"{THOUGHT}<|im_end|>"),
    ],
)
def test_headers_of_other_shapes_are_not_trained(tokenizer, use, template, answer, think, expected):
    """A space before the answer, a think block that the prompt opens, marks that begin inside the turn."""
    renderer = use(template)
    row = chat("What is 2 + 2?", answer, think)
    item = parse_conversation(row, {})
    rendered = renderer.conversation(item)
    (kept,) = [rendered.text[a:b] for a, b in rendered.spans]
    assert kept == expected
    assert row_fault(trained_turns(renderer, row)) is None


def test_a_turn_without_an_end_never_trains_on_the_next(tokenizer, use):
    row = chat("One?", "1")
    row["messages"] += chat("SECRET", "2")["messages"]
    assert trained_text(tokenizer, use(LAST_ENDS_OTHERWISE), row) == ["1", "2<|im_end|>"]
    fault = row_fault(trained_turns(use(LAST_ENDS_OTHERWISE), row, ends=("<|im_end|>",)))
    assert fault.startswith(
        "expected the end-of-turn token <|im_end|> at the end of every answer, got one without; write"
    )


LAST_USER = """{%- set last = (messages | selectattr('role', 'eq', 'user') | list)[-1] -%}
{%- for m in messages if m['role'] != 'system' -%}
{%- if m['role'] == 'user' -%}[INST]{% if m == last and messages[0]['role'] == 'system' %}
{{- ' ' + messages[0]['content'] }}{% endif %}
{{- ' ' + m['content'] }}[/INST]{%- else -%}{{ ' ' + m['content'] + eos_token }}{%- endif -%}
{%- endfor -%}"""


def test_a_system_text_in_the_last_user_turn_moves_no_span(use):
    """As Mistral's template has it: the space before an answer is the answer's, and the system text is found."""
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "One"},
        {"role": "user", "content": "More"},
        {"role": "assistant", "content": "Two"},
    ]
    item = parse_conversation({"messages": turns}, {})
    renderer = use(LAST_USER)
    found = renderer.conversation(item)
    kept = [found.text[a:b] for a, b in found.spans]
    assert kept == [" One<|im_end|>", " Two<|im_end|>"]
    assert row_fault(trained_turns(renderer, {"messages": turns}, modes=False)) is None


TOOL_ROW = {
    "messages": [
        {"role": "user", "content": "1 + 2?"},
        {"role": "assistant", "content": "", "tool_calls": [CALL]},
        {"role": "tool", "content": "SECRET"},
        {"role": "assistant", "content": "It is 3"},
    ],
    "tools": TOOLS,
}


def shipped(name: str) -> str:
    """A template that TRL ships."""
    import trl

    return (Path(trl.__file__).parent / "chat_templates" / f"{name}.jinja").read_text(encoding="utf-8")


def test_what_stands_before_an_answer_to_a_tool_is_not_trained(tokenizer, use):
    """DeepSeek's template closes the tool's results only when an answer follows, inside its marks."""
    renderer = use(shipped("deepseekv3_training").replace("<｜end▁of▁sentence｜>", "<|im_end|>"))
    rendered = renderer.conversation(parse_conversation(TOOL_ROW, {}))
    assert rendered.text[slice(*rendered.spans[-1])] == "It is 3<|im_end|>"


def test_a_template_that_answers_inside_its_tool_turn_is_refused_on_every_row(tokenizer, use):
    """Gemma 4 writes a tool's result behind the call, in the model's own turn, so no probe can tell them apart."""
    renderer = use(shipped("gemma4_v5").replace("<turn|>", "<|im_end|>"))
    encoder = SupervisedEncoder(tokenizer, options(assistant_only_loss=True))
    assert encoder.renderer.template.text == renderer.template.text
    shape = Format("messages", ("messages",), lambda fields: fields)
    task = RowToEncode(Source("rows"), SourceRow("rows:201", TOOL_ROW), shape, 1, checked=False)
    (result,) = encoder([task]).results
    assert isinstance(result, Refused)
    assert "SECRET" not in result.reason


def test_a_second_mark_around_the_end_of_the_text_is_no_answer(tokenizer, use):
    renderer = use(shipped("phi3_training").replace("<|end|>", "<|im_end|>"))
    assert trained_text(tokenizer, renderer, chat("1 + 2?", "3", False)) == ["3<|im_end|>"]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("Answer", "expected tokens that say what an answer says, got others, or one that joins its beginning to what"),
        ("4", None),
        ("\n\nAnswer", None),
    ],
)
def test_a_token_that_joins_header_and_answer_is_seen_in_every_row(tokenizer, use, answer, reason):
    """Behind the first rows too: a source whose first answers are digits has whole tokens until the first word."""
    use(ENDS_IN_SPACE)
    shape = Format("messages", ("messages",), lambda fields: fields)
    row = RowToEncode(Source("rows"), SourceRow("rows:201", chat("2 + 2?", answer)), shape, 1, checked=False)
    (result,) = SupervisedEncoder(tokenizer, options(assistant_only_loss=True))([row]).results
    if reason is None:
        (ids, ranges), *_ = result.parts
        assert tokenizer.decode(ids[ranges[0] : ranges[1]]).strip() == f"{answer.strip()}<|im_end|>"
    else:
        assert isinstance(result, Refused)
        assert result.reason.startswith(reason)
