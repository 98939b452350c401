"""Turns in orders that templates differ on: rendered where the template takes them, changed or refused as asked."""

from dataclasses import replace

import pytest
from conftest import CHATML, LLAMA_LIKE
from data_helpers import CALL, options, parsed_row, trained_ids

from apo_soup.data.conversations.formats import canonical, formats_of, recognise
from apo_soup.data.documents import Document, Refused, RowToEncode
from apo_soup.data.encode import encoder_for
from apo_soup.data.encode_pairs import PairEncoder
from apo_soup.data.sources.rows import RowError, SourceRow
from apo_soup.data.sources.source import Source

# Roles must alternate, and a system text stands in the last user turn, as in Mistral's templates.
MISTRAL_LIKE = """
{%- if messages[0].role == 'system' -%}{%- set system = messages[0].content -%}{%- set turns = messages[1:] -%}
{%- else -%}{%- set turns = messages -%}{%- endif -%}
{{- '<|endoftext|>' -}}
{%- for m in turns -%}
{%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}{{- raise_exception('roles must alternate') -}}{%- endif -%}
{%- if m.role == 'user' -%}
{{- '[INST] ' + (system + '\n\n' if loop.last and system else '') + m.content + '[/INST]' -}}
{%- elif m.role == 'assistant' -%}{{- ' ' + m.content + '<|im_end|>' -}}
{%- else -%}{{- raise_exception('a role that is unknown') -}}{%- endif -%}
{%- endfor -%}
"""
# Joins turns of one role without a word.
JOINING = """
{%- set ns = namespace(role='') -%}
{%- for m in messages -%}
{{- '\n\n' if m.role == ns.role else ('<|im_end|>\n' if ns.role else '') + '<|im_start|>' + m.role + '\n' -}}
{{- m.content -}}{%- set ns.role = m.role -%}
{%- endfor -%}
{{- '<|im_end|>\n' -}}{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}
"""
# Knows a system turn in the first place alone, and passes over others.
DROPPING = CHATML.replace("{{- '<|im_start|>'", "{{- '' if m.role == 'system' and not loop.first else '<|im_start|>'")
DROPPING = DROPPING.replace("message in", "m in").replace("message.", "m.")
NAMING = CHATML.replace("message.content", "(message.name + ': ' if message.name else '') + message.content")
TEMPLATES = {"ours": None, "chatml": CHATML, "llama": LLAMA_LIKE, "mistral": MISTRAL_LIKE}
ROLES = {"s": "system", "u": "user", "a": "assistant", "t": "tool"}


def turns(roles: str) -> list[dict]:
    """Turns by the first letters of their roles, with words of their own."""
    return [{"role": ROLES[r], "content": f"{ROLES[r]} words {n}."} for n, r in enumerate(roles)]


@pytest.fixture
def encoded(use, tokenizer):
    """What becomes of a row under a template: the text that is trained, or why there is none."""

    def encode(row: dict, template: str | None, order: str | None = None) -> str:
        encoder = encoder_for(use(template).tokenizer, options(assistant_only_loss=True))
        return trained(encoder, {**row, "chat_template_kwargs": {"enable_thinking": False}}, order)

    def trained(encoder, row, order) -> str:
        row_format = replace(recognise(row, formats_of(pairs=False)), turn_order=order)
        one = RowToEncode(Source("rows"), SourceRow("rows:1", row, size=9), row_format, 1, checked=False)
        (result,) = encoder([one]).results
        if isinstance(result, Refused):
            return result.reason
        assert isinstance(result, Document)
        return tokenizer.decode(trained_ids(*result.parts[0])).replace("<|im_end|>", "|").replace(" words", "")

    return encode


# It stands in the last turn where that is the user's, so it is in no row that ends with an answer.
SYSTEM_LOST = (
    "expected the text of a system turn in what the chat template writes, got a text without it; "
    "write system_turn: into_user for the source, or choose another chat_template"
)
ALTERNATE = "chat_template: expected a row that it takes, got a refusal: roles must alternate; "
JOIN = "write turn_order: join for the source, or mend the row"
DROP = "write turn_order: drop_leading for the source, or mend the row"


@pytest.mark.parametrize(
    ("roles", "trained", "remedy"),
    [
        ("aua", "assistant 0.|assistant 2.|", DROP),
        ("saua", "assistant 1.|assistant 3.|", DROP),
        ("uua", "assistant 2.|", JOIN),
        ("uaa", "assistant 1.|assistant 2.|", JOIN),
        ("uauua", "assistant 1.|assistant 4.|", JOIN),
    ],
)
def test_the_template_decides_and_its_complaint_comes_with_the_cure(encoded, roles, trained, remedy):
    row = {"messages": turns(roles)}
    for name in ("ours", "chatml", "llama"):
        assert encoded(row, TEMPLATES[name]) == trained, name
    assert encoded(row, MISTRAL_LIKE) == ALTERNATE + remedy
    order = remedy.split()[2]
    for template in TEMPLATES.values():
        lost = template == MISTRAL_LIKE and roles[0] == "s"
        assert (SYSTEM_LOST if lost else "assistant") in encoded(row, template, order)
        assert encoded(row, template, "refuse").startswith("expected turns in the usual order, got turn ")


def test_turns_are_joined_with_a_blank_line_and_leading_ones_dropped(encoded):
    assert encoded({"messages": turns("uaa")}, MISTRAL_LIKE, "join").strip() == "assistant 1.\n\nassistant 2.|"
    assert encoded({"messages": turns("aua")}, MISTRAL_LIKE, "drop_leading").strip() == "assistant 2.|"
    assert encoded({"messages": turns("saua")}, None, "drop_leading") == "assistant 3.|"
    for dialect in ("messages", "conversations"):
        row = {dialect: [{"from": "system", "value": "A"}, *turns("suua")]}
        row_format = replace(recognise(row, formats_of(pairs=False)), turn_order="join")
        contents = [m["content"] for m in canonical(row, row_format)["messages"]]
        assert contents == ["A\n\nsystem words 0.", "user words 1.\n\nuser words 2.", "assistant words 3."]


@pytest.mark.parametrize(
    ("row", "order", "told"),
    [
        ({"messages": turns("uua")}, "join", "turn_order: join made one turn of several of one role"),
        ({"messages": turns("ua")}, "join", None),
        (
            {"messages": turns("aua")},
            "drop_leading",
            "turn_order: drop_leading left out what the assistant says before the first user turn",
        ),
        ({"messages": turns("suua")}, "drop_leading", None),
        ({"prompt": turns("uu"), "completion": "A"}, "join", "turn_order: join made one turn of several of one role"),
        ({"messages": turns("uua")}, None, None),
    ],
)
def test_rows_that_an_order_changes_are_remarked_upon(tokenizer, use, row, order, told):
    encoder = encoder_for(use(CHATML).tokenizer, options(assistant_only_loss=True))
    row_format = replace(recognise(row, formats_of(pairs=False)), turn_order=order)
    batch = encoder([RowToEncode(Source("rows"), SourceRow("rows:1", row, size=9), row_format, 1, checked=False)])
    assert dict(batch.remarks) == ({("rows", told): 1} if told else {})


def test_a_system_turn_in_the_middle_is_the_templates_matter(encoded):
    row = {"messages": turns("uasua")}
    for template in (CHATML, LLAMA_LIKE):
        assert encoded(row, template) == "assistant 1.|assistant 4.|"
    assert encoded(row, None) == (
        "chat_template: expected a row that it takes, got a refusal: role must be system (first), user, assistant or "
        "tool; found system; mend the row or leave it out"
    )
    assert encoded(row, MISTRAL_LIKE) == ALTERNATE + "mend the row or leave it out"


def test_a_template_that_drops_joins_or_moves_turns_in_silence_does_not_pass(encoded):
    assert encoded({"messages": turns("uasua")}, DROPPING) == (
        "expected every turn in what the chat template writes, got a text without turn 2 (system behind assistant); "
        "mend the row or leave it out"
    )
    told = "expected the chat template to part all turns, got turn {} inside the one before it; " + JOIN
    assert encoded({"messages": turns("uua")}, JOINING) == told.format("1 (user behind user)")
    assert encoded({"messages": turns("uaa")}, JOINING) == told.format("2 (assistant behind assistant)")
    assert encoded({"messages": turns("ssua")}, JOINING) == told.format("1 (system behind system)")
    moving = CHATML.replace("in messages", "in messages | sort(attribute='role')")
    assert encoded({"messages": turns("uuaua")}, moving).startswith("chat_template: expected '")
    assert encoded({"messages": turns("suaua")}, MISTRAL_LIKE) == SYSTEM_LOST


@pytest.mark.parametrize(
    ("second", "what"),
    [
        ({"tool_calls": [CALL]}, "calls in one of them"),
        ({"weight": 0}, "other flags"),
        ({"name": "Ann"}, "another name"),
        ({"reasoning_content": "Hm."}, "reasoning of its own"),
        ({"content": "<think>\nHm.\n</think>\nA"}, "reasoning of its own"),
    ],
)
def test_turns_that_say_more_than_words_are_not_joined(second, what):
    row = {"messages": [*turns("ua"), {**turns("a")[0], **second}]}
    row_format = replace(recognise(row, formats_of(pairs=False)), turn_order="join")
    told = r"field messages\[2\]: expected a turn that can be joined to the assistant turn before it, got one with "
    with pytest.raises(RowError, match=f"{told}{what}; mend the row or leave it out"):
        canonical(row, row_format)


def test_a_user_may_follow_a_tool_and_a_tool_follows_a_call_alone(encoded):
    call = {"role": "assistant", "content": "", "tool_calls": [CALL]}
    assert "</tool_call>|assistant 2.|" in encoded({"messages": [*turns("u"), call, *turns("tua")]}, None)
    for roles in ("tua", "uta", "suta"):
        with pytest.raises(RowError, match=r"\.role: expected tool behind assistant or tool, got one .*; mend the row"):
            parsed_row({"messages": turns(roles)})


def test_pairs_are_changed_and_checked_alike(use):
    better, worse = turns("auua"), [*turns("auu"), {"role": "assistant", "content": "No."}]
    row = {"chosen": better, "rejected": worse}
    results = {}
    for template, order in ((CHATML, None), (JOINING, None), (JOINING, "join"), (JOINING, "refuse")):
        encoder = PairEncoder(use(template).tokenizer, options(pairs=True))
        row_format = replace(recognise(row, formats_of(pairs=True)), turn_order=order)
        one = RowToEncode(Source("rows"), SourceRow("rows:1", row, size=9), row_format, 1, checked=False)
        (results[template, order],) = encoder([one]).results
    assert isinstance(results[CHATML, None], Document)
    assert isinstance(results[JOINING, "join"], Document)
    assert results[JOINING, None].reason.startswith(
        "expected the chat template to part all turns, got turn 2 (user behind user) inside"
    )
    assert results[JOINING, "refuse"].reason.startswith(
        "expected turns in the usual order, got turn 0 (assistant at the"
    )
    with pytest.raises(RowError, match="field prompt: expected turns that end before the assistant answers, got"):
        parsed_row({"prompt": turns("ua"), "chosen": "a", "rejected": "b"}, pairs=True)


def test_names_are_rendered_where_the_template_writes_them_and_counted_elsewhere(use):
    row = {"messages": [{**turns("u")[0], "name": "Ann"}, *turns("a")]}
    for template, unread in ((CHATML, ["turns.name"]), (NAMING, [])):
        encoder = encoder_for(use(template).tokenizer, options(assistant_only_loss=True))
        row_format = recognise(row, formats_of(pairs=False))
        batch = encoder([RowToEncode(Source("rows"), SourceRow("rows:1", row, size=9), row_format, 1, checked=False)])
        assert isinstance(batch.results[0], Document)
        assert [name for _, name in batch.unread] == unread
