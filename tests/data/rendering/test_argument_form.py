"""Tools, instructions and ids of calls in the form that a template takes, found by trying it."""

import json

import pytest
from conftest import QWEN3_LIKE
from data_helpers import CALL, PROMPT, mode, options, parsed_row

from apo_soup.data.conversations.conversation import parse_conversation
from apo_soup.data.conversations.formats import formats_of, recognise
from apo_soup.data.documents import RowToEncode
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.data.rendering.argument_form import (
    AS_SYSTEM_TURN,
    GAVE_WAY,
    ArgumentForm,
    as_served,
    with_instructions,
)
from apo_soup.data.rendering.message_form import with_short_ids
from apo_soup.data.sources.rows import RowError, SourceRow
from apo_soup.data.sources.source import Source

FLAT = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}
SCHEMA = {"type": "function", "function": FLAT}
TURNS = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)
SCHEMAS_ALONE = "{%- for tool in tools or [] -%}{{- tool.function.name + '!' -}}{%- endfor -%}" + TURNS
# SmolLM3's own name of tools; the word tools stands in its text.
XML_TOOLS = "{%- for tool in xml_tools or [] -%}{{- '<tools>' ~ (tool | string) -}}{%- endfor -%}" + TURNS
# Mistral's: ids of nine letters and digits, of calls and of results.
CHECKED_IDS = """
{%- for m in messages -%}
{%- if m.role == 'user' -%}{{- '[INST] ' + m.content + '[/INST]' -}}
{%- elif m.tool_calls is defined -%}
{%- for call in m.tool_calls -%}
{%- if call.id is not defined or call.id | length != 9 -%}{{- raise_exception('ids of nine letters') -}}{%- endif -%}
{{- '[TOOL_CALLS]' + (call.function | tojson) + call.id -}}
{%- endfor -%}{{- '<|im_end|>' -}}
{%- elif m.role == 'tool' -%}
{%- if m.tool_call_id is not defined or m.tool_call_id | length != 9 -%}{{- raise_exception('ids') -}}{%- endif -%}
{{- '[TOOL_RESULTS]' + m.content + ' of ' + m.tool_call_id + '[/TOOL_RESULTS]' -}}
{%- else -%}{{- ' ' + m.content + '<|im_end|>' -}}{%- endif -%}
{%- endfor -%}
"""


@pytest.mark.parametrize(
    ("template", "given", "written"),
    [
        (SCHEMAS_ALONE, {"tools": [FLAT]}, "add!"),
        (SCHEMAS_ALONE, {"tools": [json.dumps(FLAT)]}, "add!"),
        (SCHEMAS_ALONE, {"tools": [SCHEMA]}, "add!"),
        (SCHEMAS_ALONE, {"xml_tools": [json.dumps(FLAT)]}, "add!"),
        (XML_TOOLS, {"tools": [FLAT]}, f"<tools>{json.dumps(FLAT)}"),
        (XML_TOOLS, {"xml_tools": [json.dumps(FLAT)]}, f"<tools>{json.dumps(FLAT)}"),
        (QWEN3_LIKE, {"tools": [FLAT]}, f"<|im_start|>system\n# Tools\n{json.dumps(FLAT)}\n<|im_end|>\n"),
        (QWEN3_LIKE, {"xml_tools": [json.dumps(SCHEMA)]}, f"<|im_start|>system\n# Tools\n{json.dumps(SCHEMA)}\n"),
    ],
)
def test_tools_are_written_under_whatever_name_and_form_a_template_reads(use, template, given, written):
    renderer = use(template)
    assert renderer.prompt(PROMPT, given).startswith(written)
    assert renderer.unread({*given, "python_tools", "colour"}) == {"python_tools", "colour"}


def test_a_word_of_its_text_is_no_argument_that_a_template_reads(use):
    assert use("{{- '<tools>' -}}" + TURNS).unread({"tools", "messages"}) == {"tools"}


def test_instructions_that_a_template_does_not_read_become_the_system_turn(tokenizer, use):
    use(TURNS)
    arguments = {"custom_instructions": "Be brief.", "enable_thinking": False}
    row = {"prompt": "What?", "completion": "That.", "chat_template_kwargs": arguments}
    shape = recognise(row, formats_of(pairs=False))
    encoder = SupervisedEncoder(tokenizer, options(assistant_only_loss=True))
    batch = encoder([RowToEncode(Source("rows"), SourceRow("rows:1", row), shape, 1, checked=True)])
    text = tokenizer.decode(batch.results[0].parts[0][0])
    assert text.startswith("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat?<|im_end|>")
    assert batch.remarks == {("rows", AS_SYSTEM_TURN): 1}
    assert batch.arguments == {"enable_thinking"}


@pytest.mark.parametrize(
    ("system", "remark"), [("S", GAVE_WAY), ("S /no_think", GAVE_WAY), ("I", None), ("I /no_think", None)]
)
@pytest.mark.parametrize("reads", [frozenset(), frozenset({"custom_instructions"})])
def test_the_instructions_of_a_recipe_give_way_to_a_system_turn(system, remark, reads):
    turn = {"role": "system", "content": system}
    row = {"messages": [turn, *PROMPT, {"role": "assistant", "content": "That."}]}
    kwargs = {"custom_instructions": "I"}
    item, told = with_instructions(parse_conversation(row, kwargs), ArgumentForm(reads))
    assert (item.messages[0], item.kwargs, told) == (turn, kwargs if reads else {}, remark)


def test_the_instructions_of_a_pair_are_its_system_turn():
    pair = parsed_row({"prompt": PROMPT, "chosen": "a", "rejected": "b", **INSTRUCTED}, pairs=True)[1]
    item, told = with_instructions(pair, ArgumentForm(frozenset()))
    assert (item.prompt, told) == ([{"role": "system", "content": "I"}, *PROMPT], AS_SYSTEM_TURN)


def test_a_model_is_asked_with_the_instructions_that_it_was_trained_with(use):
    renderer, told = use(TURNS), {"custom_instructions": "Be brief."}
    asked = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhat?<|im_end|>\n<|im_start|>assistant\n"
    assert renderer.prompt(PROMPT, told) == asked
    row = {"prompt": "What?", "completion": "That.", "chat_template_kwargs": told}
    rendered = renderer.conversation(parse_conversation(row, {}))
    assert rendered.text == f"{asked}That.<|im_end|>\n"
    assert [rendered.text[a:b] for a, b in rendered.spans] == ["That.<|im_end|>"]
    assert renderer.unread({*told, "colour"}) == {"colour"}


@pytest.mark.parametrize("sent", [True, False])
def test_a_server_is_asked_with_a_system_turn_and_schemas(sent):
    system, given = {"role": "system", "content": "Be brief."}, {"xml_tools": [json.dumps(FLAT)]}
    arguments = {"custom_instructions": "Be brief.", "enable_thinking": False, **given}
    tools = {} if sent else {"tools": [SCHEMA]}
    assert as_served(PROMPT, arguments, sent) == ([system, *PROMPT], {"enable_thinking": False, **given, **tools})
    assert as_served([system], {"custom_instructions": "No.", "tools": [FLAT]}, sent) == ([system], {"tools": [SCHEMA]})


INSTRUCTED = {"chat_template_kwargs": {"custom_instructions": "I"}}


@pytest.mark.parametrize("pairs", [False, True])
def test_two_system_texts_of_a_row_are_refused(pairs):
    """Templates leave the instructions out where there is a system turn, silently."""
    turns = [{"role": "system", "content": "S"}, *PROMPT]
    sides = {"chosen": "a", "rejected": "b"} if pairs else {"completion": "a"}
    with pytest.raises(RowError, match="expected custom_instructions that say what the system turn says, got str 'I'"):
        parsed_row({"prompt": turns, **sides, **INSTRUCTED}, pairs)
    for same in ("I\n", "I /no_think"):
        turns[0]["content"] = same
        assert parsed_row({"prompt": turns, **sides, **INSTRUCTED}, pairs)


def test_calls_get_the_ids_that_a_template_asks_for(use):
    """Results name the calls by them, whatever order they came in; an id that fits stays."""
    calls = [{**CALL, "id": known} for known in ("call_1", "abcdefgh9")]
    answered = [
        {"role": "tool", "tool_call_id": "abcdefgh9", "content": "second"},
        {"role": "tool", "tool_call_id": "call_1", "content": "first"},
    ]
    turns = [*PROMPT, {"role": "assistant", "content": "", "tool_calls": calls}, *answered]
    row = {"messages": [*turns, {"role": "assistant", "content": "Three"}], **mode(False)}
    renderer = use(CHECKED_IDS)
    item = parse_conversation(row, {})
    rendered = renderer.conversation(item)
    first = with_short_ids(item.messages)[1]["tool_calls"][0]["id"]
    assert len(first) == 9
    assert first.isalnum()
    assert first != "call_1"
    results = f"first of {first}[/TOOL_RESULTS][TOOL_RESULTS]second of abcdefgh9[/TOOL_RESULTS] Three<|im_end|>"
    assert rendered.text.endswith(results)
    assert [rendered.text[a:b] for a, b in rendered.spans][-1] == " Three<|im_end|>"
    assert renderer.call_form.gives_ids(item.messages)
    assert not use(QWEN3_LIKE).call_form.gives_ids(item.messages)


def test_calls_and_results_without_ids_get_some(use):
    turns = [*PROMPT, {"role": "assistant", "content": "", "tool_calls": [CALL, CALL]}]
    turns += [{"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}]
    named = with_short_ids(turns)
    ids = [call["id"] for call in named[1]["tool_calls"]]
    assert len(set(ids)) == 2
    assert [turn["tool_call_id"] for turn in named[2:]] == ids
    assert f"1 of {ids[0]}" in use(CHECKED_IDS).render(turns, {})[0]
