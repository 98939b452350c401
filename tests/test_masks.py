"""What is trained, as text, for seven templates in both modes; and the gate that looks at it."""

import re
from pathlib import Path

import numpy as np
import pytest
from conftest import CHATML, LLAMA_LIKE, QWEN3_LIKE, SMOLLM2
from helpers import ROOT, chat, preference
from hypothesis import given, settings
from hypothesis import strategies as st

from apo_soup.config.recipe import read_yaml
from apo_soup.data.char_to_token import TokenEdges, token_ranges
from apo_soup.data.conversation import conversation, pair
from apo_soup.data.encode import Encoder, Options, Refused, Task, trained_spans
from apo_soup.data.formats import Format
from apo_soup.data.mask_check import PairSample, Sample, check_pair, check_sample
from apo_soup.data.prefix_cache import SharedHeads
from apo_soup.data.rows import Row, RowError, Source
from apo_soup.data.trained_spans import Renderer
from apo_soup.errors import UserError
from apo_soup.models.tokenizer import encode

ASSISTANT = "<|im_start|>assistant\n"
THOUGHT = "<think>\n2 + 2 = 4\n</think>\n4"
# Marks around the whole turn, as some published templates have them: header, empty block and trailing newline inside.
MARKED_WIDE = (
    "{%- for m in messages -%}{%- if m.role == 'assistant' -%}{%- generation -%}"
    "{{- '<|im_start|>assistant\n' + ('<think>\n\n</think>\n' if enable_thinking is false else '') -}}"
    "{{- m.content + '<|im_end|>\n' -}}{%- endgeneration -%}"
    "{%- else -%}{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- endif -%}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}"
    "{{- '<think>\n\n</think>\n' if enable_thinking is false else '' -}}{%- endif -%}"
)
# The first turn names the length of all that is said, so what stands before an answer depends on the answer.
TELLS_LENGTH = (
    "{{- messages | map(attribute='content') | join | length -}}{%- for m in messages -%}"
    "{{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}"
)


def published():
    return read_yaml(ROOT / "tests" / "handbook" / "sft.yaml")[0]["chat_template"]


TEMPLATES = {
    "ours": None,
    "chatml": CHATML,
    "smollm2": SMOLLM2,
    "llama": LLAMA_LIKE,
    "qwen3": QWEN3_LIKE,
    "wide": MARKED_WIDE,
    "published": published(),
}


@pytest.fixture
def use(tokenizer):
    """Put a template on the shared tokenizer for one test."""
    original = tokenizer.chat_template

    def put(template):
        tokenizer.chat_template = template or original
        return Renderer(tokenizer)

    yield put
    tokenizer.chat_template = original


def trained_text(tokenizer, renderer, row) -> list[str]:
    """The trained spans of a row, decoded from the tokens that the mask keeps."""
    rendered = renderer.conversation(conversation(row, {}))
    encoding = encode(tokenizer, [rendered.text])[0]
    ranges = token_ranges(encoding.offsets, rendered.spans)
    assert TokenEdges(tokenizer).ranges(rendered.text, np.array(encoding.ids), rendered.spans) == ranges
    out = [tokenizer.decode(encoding.ids[first:last]) for first, last in ranges]
    assert [rendered.text[a:b] for a, b in rendered.spans] == out, "no token is lost at the edge of a span"
    return out


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


CALL = {"type": "function", "function": {"name": "add", "arguments": {"a": 1, "b": 2}}}
CALLED = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'
TOOLS = [{"name": "add", "parameters": {"a": "integer"}}]


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
    import json

    written = {"function": {"name": "add", "arguments": json.dumps(CALL["function"]["arguments"])}}
    for call in (CALL, written):
        messages = [{"role": "user", "content": "1 + 2?"}, {"role": "assistant", "tool_calls": [call]}]
        row = {"messages": messages, "chat_template_kwargs": {"enable_thinking": False}}
        assert trained_text(tokenizer, use(None), row) == [f"{CALLED}<|im_end|>"]


def test_reasoning_content_is_rendered_and_trained_in_think_mode(tokenizer, use):
    row = chat("2 + 2?", "4", True)
    row["messages"][1]["reasoning_content"] = "2 + 2 = 4"
    assert trained_text(tokenizer, use(None), row) == [f"{THOUGHT}<|im_end|>"]


def test_a_template_whose_spans_cannot_be_found_is_refused_with_the_reason(tokenizer, use):
    row = chat("One?", "1")
    row["messages"] += chat("Two?", "2")["messages"]
    with pytest.raises(RowError, match="no generation marks and writes what stands around turn 1 otherwise"):
        trained_text(tokenizer, use(TELLS_LENGTH), row)


def spans_of(use, row, **options):
    values = {"assistant_only_loss": False, **options}
    text, spans = trained_spans(conversation(row, {}), use(None), Options.of(values, False))
    return [text[a:b] for a, b in spans]


def test_the_recipe_decides_between_answers_completion_and_all(use):
    row = {"prompt": [*chat("One?", "1")["messages"], {"role": "user", "content": "Two?"}], "completion": "2"}
    assert spans_of(use, row) == ["2<|im_end|>"]
    assert spans_of(use, row, assistant_only_loss=True) == ["1<|im_end|>", "2<|im_end|>"]
    assert len(spans_of(use, row, completion_only_loss=False)[0]) > 60
    whole = spans_of(use, chat("One?", "1"))
    assert whole[0].startswith("<|im_start|>system")
    assert spans_of(use, chat("One?", "1"), completion_only_loss=True) == ["1<|im_end|>"]


@given(
    st.text(max_size=40),
    st.text(max_size=40),
    st.sampled_from(["", "<|im_end|>", " <|im_end|>\n", "\n\n<|im_end|> <think>"]),
)
@settings(max_examples=200)
def test_a_shared_beginning_is_tokenised_as_the_whole_text_is(tokenizer, head, rest, middle):
    heads = SharedHeads(tokenizer, True)
    text = f"{head}{middle}{rest}"
    assert heads.split(text) == (None, text), "the first time nothing is known"
    known, left = heads.split(text)
    assert (known is None) == ("<|im_end|>" not in text)
    tokens = ([] if known is None else known.tolist()) + encode(tokenizer, [left])[0].ids
    assert tokens == encode(tokenizer, [text])[0].ids


@given(st.text(max_size=60), st.data())
@settings(max_examples=200)
def test_tokens_found_from_byte_lengths_are_those_the_tokenizer_names(tokenizer, text, data):
    """Also where a character of several bytes is several tokens: none that is half outside a span is in its range."""
    encoding = encode(tokenizer, [text])[0]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    edges = TokenEdges(tokenizer)
    found = edges.ranges(text, np.array(encoding.ids, dtype=np.int32), spans)
    edges.lengths = None
    assert [r for r in found if r[0] < r[1]] == [
        r for r in edges.ranges(text, np.array(encoding.ids), spans) if r[0] < r[1]
    ]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 4)), max_size=30), st.data())
def test_token_ranges_hold_exactly_the_tokens_inside(gaps, data):
    """Against the definition, over random token offsets with gaps and random spans."""
    offsets, place = [], 0
    for gap, length in gaps:
        offsets.append((place + gap, place + gap + length))
        place += gap + length
    cuts = sorted(data.draw(st.lists(st.integers(0, place + 2), max_size=6)))
    spans = list(zip(cuts[::2], cuts[1::2], strict=False))
    for (start, end), (first, last) in zip(spans, token_ranges(offsets, spans), strict=True):
        inside = [i for i, (a, b) in enumerate(offsets) if a >= start and b <= end]
        assert list(range(first, last)) == inside


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


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("think", [True, False])
def test_texts_and_marks_are_those_that_transformers_renders(tokenizer, use, name, think):
    """Against `apply_chat_template`, the published template's call of the clock aside."""
    from transformers.utils.chat_template_utils import render_jinja_template

    template = TEMPLATES[name] or tokenizer.chat_template
    row = chat("One?", "1 <&> é", think)
    row["messages"] += chat("Two?", THOUGHT)["messages"]
    tools = None if name in ("chatml", "smollm2", "llama", "wide") else [{"name": "f<>", "parameters": {"é": 1}}]
    arguments = {**row["chat_template_kwargs"], "eos_token": "<|im_end|>", "tools": tools}
    ours, spans = use(TEMPLATES[name]).template.render(row["messages"], arguments)
    theirs, marks = render_jinja_template(
        [row["messages"]], chat_template=template, return_assistant_tokens_mask="endgeneration" in template, **arguments
    )
    dates = re.compile(r"Today Date: .*")
    assert dates.sub("", ours) == dates.sub("", theirs[0])
    if marks and "strftime_now" not in template:
        assert spans == [tuple(m) for m in marks[0]]


def test_control_characters_in_a_row_are_refused_by_a_marked_template(use):
    for words in ("\ufdd0", "a \ufdd1", "\ufdd0 \ufdd1"):
        with pytest.raises(RowError, match=r"U\+FDD0|assistant spans for 1"):
            use(None).conversation(conversation(chat(words, f"x {words}", False), {}))


def test_a_template_cannot_reach_out_of_its_sandbox(use):
    renderer = use("{{ messages.__class__.__mro__ }}{{ messages.append(1) }}")
    with pytest.raises(RowError, match="the chat template refuses the row"):
        renderer.render([{"role": "user", "content": "x"}], {})


DATED = "{{- 'Today: ' + strftime_now('%d %B %Y') + '\n' -}}" + CHATML


def test_a_template_that_asks_for_the_day_is_told_a_fixed_one(use):
    renderer, user = use(DATED), [{"role": "user", "content": "Hi"}]
    assert renderer.render(user, {})[0].startswith("Today: 01 July 2025\n")
    for date in ("02 May 2026", "2026-05-02", "2 May 2026"):
        assert renderer.render(user, {"date_string": date})[0].startswith("Today: 02 May 2026\n")
    assert renderer.render(user, {"date_string": "today"})[0].startswith("Today: today\n")


@pytest.mark.parametrize(
    ("system", "kwargs"), [("Be kind. /no_think", {}), ("See docs/thinking.", {"enable_thinking": False})]
)
def test_headers_are_cut_off_whatever_decides_the_mode(tokenizer, use, system, kwargs):
    row = chat("Q", "Yo")
    row["messages"].insert(0, {"role": "system", "content": system})
    row["chat_template_kwargs"] = kwargs
    assert trained_text(tokenizer, use(published()), row) == ["Yo<|im_end|>"]


def test_custom_instructions_reach_the_prompt(tokenizer):
    text = rendered(tokenizer, [{"role": "user", "content": "Hi"}], custom_instructions="Talk like a pirate.")
    assert "## Custom Instructions\n\nTalk like a pirate.<|im_end|>" in text
    assert Renderer(tokenizer).unread({"custom_instructions", "enable_thinking", "colour"}) == {"colour"}


def gate(use, row, change=lambda text, spans: spans, kept=None):
    """Run the gate on a row as our template renders it, with its spans or its trained text changed."""
    item = conversation(row, {})
    rendered = use(None).conversation(item)
    spans = change(rendered.text, rendered.spans)
    trained = kept or [rendered.text[a:b] for a, b in spans]
    check_sample(Sample("s", "f:1", item, rendered.text, spans, trained), ["<|im_end|>"])


def test_the_gate_passes_good_rows_and_names_each_fault(use):
    good = chat("Question?", THOUGHT, True)
    gate(use, good)
    gate(use, chat("Q", "4", False))
    with pytest.raises(UserError, match="source s, row f:1: no token of this row is trained"):
        gate(use, good, kept=[""])
    with pytest.raises(UserError, match="the empty think block that the template prefills is trained"):
        gate(use, chat("Q", "4", False), lambda text, spans: [(text.index("<think>"), len(text) - 1)])
    with pytest.raises(UserError, match="end-of-turn token"):
        gate(use, good, lambda text, spans: [(spans[0][0], spans[0][1] - 10)])
    with pytest.raises(UserError, match="think row trains on no reasoning"):
        gate(use, chat("Q", "4", True))
    with pytest.raises(UserError, match="no-think row trains on reasoning"):
        gate(use, chat("Q", THOUGHT, False))
    with pytest.raises(UserError, match="an answer of the assistant is not trained"):
        gate(use, chat("Q", "four", False), kept=["<|im_end|>"])


@pytest.mark.parametrize("role", ["system", "user", "tool"])
def test_the_gate_finds_any_other_turn_that_is_trained(use, role):
    row = {
        "messages": [
            {"role": "system", "content": "Be brief. /no_think"},
            {"role": "user", "content": "2?"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "content": "3"},
            {"role": "assistant", "content": "3 it is"},
        ]
    }
    words = {"system": "Be brief.", "user": "2?", "tool": "3\n</tool_response>"}[role]

    def widen(text, spans):
        place = text.index(words)
        number = 0 if role != "tool" else 1
        return [(place, spans[0][1]), spans[1]] if number == 0 else [spans[0], (place, spans[1][1])]

    gate(use, row)
    with pytest.raises(UserError, match=f"the text of a {role} turn is trained"):
        gate(use, row, widen)


def test_the_gate_looks_at_pairs(tokenizer):
    end = tokenizer.eos_token_id

    def gate_pair(texts, ids, think=False):
        row = preference("Q", "yes", "no", think)
        check_pair(PairSample("s", "f:1", pair(row, {}), texts), ids, tokenizer)

    texts = ["Q:", "Q: yes", "Q: no"]
    gate_pair(texts, ([5], [6, end], [7, end]))
    faults = [
        (texts, [7], False, "the rejected answer does not end with the end-of-turn token"),
        (["Q:", "A: yes", "Q: no"], [7, end], False, r"the prompt's text is not how prompt \+ chosen begins"),
        (["Q:", "Q:<think>\n\n</think>\nyes", "Q: no"], [7, end], False, "the chosen answer trains on an empty think"),
        (["Q:", "Q:<think>\nhm\n</think>\nyes", "Q: no"], [7, end], False, "chosen answer of a no-think pair holds"),
        (texts, [7, end], True, "the chosen answer of a think pair holds no reasoning"),
    ]
    for faulty, rejected, think, reason in faults:
        with pytest.raises(UserError, match=reason):
            gate_pair(faulty, ([5], [6, end], rejected), think)


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
    item = conversation(row, {})
    rendered = renderer.conversation(item)
    (kept,) = [rendered.text[a:b] for a, b in rendered.spans]
    assert kept == expected
    check_sample(Sample("s", "f:1", item, rendered.text, rendered.spans, [kept]), renderer.ends)


def test_a_turn_without_an_end_never_trains_on_the_next(tokenizer, use):
    row = chat("One?", "1")
    row["messages"] += chat("SECRET", "2")["messages"]
    assert trained_text(tokenizer, use(LAST_ENDS_OTHERWISE), row) == ["1", "2<|im_end|>"]
    item = conversation(row, {})
    rendered = use(LAST_ENDS_OTHERWISE).conversation(item)
    sample = Sample("s", "f:1", item, rendered.text, rendered.spans, ["1", "2<|im_end|>"])
    with pytest.raises(UserError, match="an answer's end-of-turn token"):
        check_sample(sample, ["<|im_end|>"])


def test_what_a_template_does_not_render_stops_the_gate(use):
    def checked(messages, template=CHATML, **kwargs):
        item = conversation({"messages": messages, "chat_template_kwargs": kwargs}, {})
        renderer = use(template)
        rendered = renderer.conversation(item)
        kept = [rendered.text[a:b] for a, b in rendered.spans]
        check_sample(Sample("s", "f:1", item, rendered.text, rendered.spans, kept, modes=False), renderer.ends)

    question = {"role": "user", "content": "1 + 2?"}
    checked([question, {"role": "assistant", "content": "3"}])
    with pytest.raises(UserError, match="does not render a tool call"):
        checked([question, {"role": "assistant", "tool_calls": [CALL]}])
    with pytest.raises(UserError, match="renders nothing of an answer but its end of turn"):
        checked([question, {"role": "assistant", "content": "", "reasoning_content": "hm"}])
    with pytest.raises(UserError, match="does not render reasoning_content"):
        checked([question, {"role": "assistant", "content": "3", "reasoning_content": "hm"}])
    checked([question, {"role": "assistant", "content": "3", "reasoning_content": "hm"}], None)
    thought = {"role": "assistant", "content": "<think>\nlong reasoning\n</think>\n\n3"}
    strips = CHATML.replace("message.content", "message.content.split('</think>')[-1]")
    assert strips != CHATML
    with pytest.raises(UserError, match="does not render the think block of the last answer"):
        checked([question, thought], strips)
    with pytest.raises(UserError, match="a no-think row trains on reasoning"):
        checked([question, thought], enable_thinking=False)
    with pytest.raises(UserError, match="a think row trains on no reasoning"):
        checked([question, {"role": "assistant", "content": "3"}], enable_thinking=True)


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
    item = conversation({"messages": turns}, {})
    renderer = use(LAST_USER)
    found = renderer.conversation(item)
    kept = [found.text[a:b] for a, b in found.spans]
    assert kept == [" One<|im_end|>", " Two<|im_end|>"]
    check_sample(Sample("s", "f:1", item, found.text, found.spans, kept, modes=False), renderer.ends)


def test_mode_flags_are_whole_words(tokenizer):
    user = {"role": "user", "content": "Hi"}
    text = rendered(tokenizer, [{"role": "system", "content": "See docs/thinking.md"}, user], enable_thinking=False)
    assert "Reasoning Mode: /no_think" in text
    assert "See docs/thinking.md<|im_end|>" in text
    system = {"role": "system", "content": "Read docs/thinking.md and a/think/b first. /think\n/no_think"}
    text = rendered(tokenizer, [system, user])
    assert "Read docs/thinking.md and a/think/b first.<|im_end|>" in text
    item = conversation({**chat("Q", "It opens <think> and never ends", False)}, {})
    assert item.mode == "no_think"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"text": "x"}, "field messages is missing; the row has text"),
        ({"messages": chat("Q", "A")["messages"][::-1]}, r"messages\[0\].role: wrong order, assistant comes first"),
        (
            {"messages": chat("Q", "A")["messages"][:1] * 2},
            r"messages\[1\].role: wrong order, user follows a user turn",
        ),
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
    rendered = renderer.conversation(conversation(TOOL_ROW, {}))
    assert rendered.text[slice(*rendered.spans[-1])] == "It is 3<|im_end|>"


def test_a_template_that_answers_inside_its_tool_turn_is_refused_on_every_row(tokenizer, use):
    """Gemma 4 writes a tool's result behind the call, in the model's own turn, so no probe can tell them apart."""
    renderer = use(shipped("gemma4_v5").replace("<turn|>", "<|im_end|>"))
    encoder = Encoder(tokenizer, Options.of({"assistant_only_loss": True}, False))
    assert encoder.renderer.template.text == renderer.template.text
    shape = Format("messages", ("messages",), lambda fields: fields)
    task = Task(Source("rows"), Row("rows:201", TOOL_ROW), shape, 1, gated=False)
    (result,) = encoder([task]).results
    assert isinstance(result, Refused)
    assert "SECRET" not in result.reason


def test_a_second_mark_around_the_end_of_the_text_is_no_answer(tokenizer, use):
    renderer = use(shipped("phi3_training").replace("<|end|>", "<|im_end|>"))
    assert trained_text(tokenizer, renderer, chat("1 + 2?", "3", False)) == ["3<|im_end|>"]


def test_answers_must_end_with_the_token_that_stops_generation(use):
    renderer = use(None)
    item = conversation(chat("1 + 2?", "3", False), {})
    rendered = renderer.conversation(item)
    sample = Sample("s", "s:1", item, rendered.text, rendered.spans, [rendered.text[slice(*rendered.spans[0])]])
    check_sample(sample, ("<|im_end|>", "<|endoftext|>"))
    with pytest.raises(UserError, match=r"answers end with <\|im_end\|> and generation stops at <\|endoftext\|>"):
        check_sample(sample, ("<|endoftext|>", "<|im_end|>"))
