"""Every row is held to what it says: nothing is missing from its trained turns, and nothing of others is in them."""

from dataclasses import replace

import pytest
from conftest import CHATML, QWEN3_LIKE
from data_helpers import CALL, THOUGHT, TOOLS, mode, trained_turns
from helpers import chat

from apo_soup.data.checks.row_faults import TrainedTurns, row_fault, whole_row_fault
from apo_soup.data.conversations.conversation import parse_conversation
from apo_soup.data.cures import THINK_CURE

QUESTION = {"role": "user", "content": "1 + 2?"}
MARKED = """{%- for message in messages -%}<|im_start|>{{ message.role }}
{% if message.role == 'assistant' %}{% generation %}{{ message.content + eos_token }}{% endgeneration %}
{% else %}{{ message.content }}<|im_end|>
{% endif %}{%- endfor -%}{%- if add_generation_prompt -%}<|im_start|>assistant
{% endif %}"""
TOOL_TURNS = [
    {"role": "system", "content": "Be brief. /no_think"},
    {"role": "user", "content": "2?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "3"},
    {"role": "assistant", "content": "3 it is"},
]
CURE = "correct the row, or choose another chat_template"
OTHER = "correct the template, or choose another chat_template"
TRAINED = "expected no loss on the text of this {} turn, got it among what is trained; " + OTHER
NOT_WRITTEN = "expected the text of a {} turn in what the chat template writes, got a text without it; " + CURE
CALL_WITHOUT = (
    "expected all of a tool call in what the chat template writes, got it without {}, so it is not trained; " + CURE
)
NOT_ALL = "expected all of an answer in what the chat template writes, got less, so it is not trained; " + CURE


def fault_of(renderer, row, change=lambda text, spans: spans, **changes):
    """What is wrong with a row as a template renders it, with its spans changed."""
    turns = trained_turns(renderer, row, **changes)
    return row_fault(replace(turns, spans=change(turns.text, turns.spans)))


def test_good_rows_pass_and_each_fault_is_named(use):
    ours = use(None)
    good = chat("Question?", THOUGHT, True)
    assert fault_of(ours, good) is None
    assert fault_of(ours, chat("Q", "4", False)) is None
    wide = fault_of(ours, chat("Q", "4", False), lambda text, spans: [(text.index("<think>"), len(text) - 1)])
    assert wide.startswith("expected no loss on the empty think block that the template prefills, got it among")
    assert "end-of-turn token" in fault_of(ours, good, lambda text, spans: [(spans[0][0], spans[0][1] - 10)])
    assert "expected reasoning in a think row, got none; give no-think rows" in fault_of(ours, chat("Q", "4", True))
    assert "mode: by_row" in fault_of(ours, chat("Q", "4", True))
    assert "expected no reasoning in a no-think row, got <think> in an answer; give think rows" in fault_of(
        ours, chat("Q", THOUGHT, False)
    )
    late = fault_of(ours, chat("Q", "four", False), lambda text, spans: [(spans[0][0] + 2, spans[0][1])])
    assert late == f"expected loss on every answer, got one that is not trained; {OTHER}"


@pytest.mark.parametrize("role", ["system", "user", "tool"])
def test_any_other_turn_that_is_trained_is_found(use, role):
    words = {"system": "Be brief.", "user": "2?", "tool": "3\n</tool_response>"}[role]

    def widen(text, spans):
        place = text.index(words)
        return [spans[0], (place, spans[1][1])] if role == "tool" else [(place, spans[0][1]), spans[1]]

    assert fault_of(use(None), {"messages": TOOL_TURNS}) is None
    assert fault_of(use(None), {"messages": TOOL_TURNS}, widen) == TRAINED.format(role)


def test_a_short_result_that_stands_elsewhere_too_is_found_when_trained():
    """A tool's result inside the model's own turn: its one character stands in the question as well."""
    item = parse_conversation({"messages": [{"role": "user", "content": "1 + 3?"}, *TOOL_TURNS[2:]]}, {})
    text = "<user>1 + 3?<model>add a 1 b 2<|im_end|><result>3</result>3 it is<|im_end|>"
    call, answer = (text.index("add"), text.index("<result>")), (text.index("3 it is"), len(text))
    row = TrainedTurns(item, text, [call, answer], item.answers, ("<|im_end|>",), modes=False)
    assert row_fault(row) is None
    wide = replace(row, spans=[call, (call[1], len(text))])
    assert row_fault(wide) == TRAINED.format("tool")


@pytest.mark.parametrize(
    ("template", "messages", "fault"),
    [
        (CHATML, [{"role": "assistant", "content": "3"}], None),
        (
            CHATML,
            [{"role": "assistant", "tool_calls": [CALL]}],
            "expected all of a tool call in what the chat template writes, got it without its name add, so",
        ),
        (
            CHATML,
            [{"role": "assistant", "content": "Wait.", "tool_calls": [CALL]}],
            "expected all of a tool call in what the chat template writes, got",
        ),
        (
            CHATML,
            [{"role": "assistant", "content": "", "reasoning_content": "hm"}],
            "expected reasoning_content in what the chat template writes, got none, so it is not trained; write",
        ),
        (
            CHATML,
            [{"role": "assistant", "content": "3", "reasoning_content": "hm"}],
            "expected reasoning_content in what the chat template writes, got none, so it is not trained; write",
        ),
        (None, [{"role": "assistant", "content": "3", "reasoning_content": "hm"}], None),
        (
            CHATML.replace("message.content", "message.content.split('</think>')[-1]"),
            [{"role": "assistant", "content": "<think>\nlong reasoning\n</think>\n\n3"}],
            "expected the think block of an answer in what the chat template writes, got none",
        ),
        (
            MARKED.replace("message.content", "message.content[:7]"),
            [{"role": "assistant", "content": "a long answer"}],
            NOT_ALL,
        ),
        (
            MARKED.replace("eos_token", "eos_token + eos_token"),
            [{"role": "assistant", "content": "3"}],
            "expected the end-of-turn token <|im_end|> at the end of an answer alone, got one inside; remove it",
        ),
        (
            CHATML,
            [{"role": "assistant", "content": "so 3\n</think>\n3"}],
            "expected <think> before the </think> of an answer, got none",
        ),
    ],
)
def test_what_a_template_does_not_render_is_named(use, template, messages, fault):
    found = fault_of(use(template), {"messages": [QUESTION, *messages]}, modes=False)
    assert (found is None) == (fault is None)
    assert (fault or "") in (found or "")


def test_a_no_think_row_with_reasoning_in_a_field_is_not_told_to_write_it_into_the_content(use):
    """There it would be refused too."""
    turn = {"role": "assistant", "content": "3", "reasoning_content": "hm"}
    found = fault_of(use(CHATML), {"messages": [QUESTION, turn], "chat_template_kwargs": {"enable_thinking": False}})
    assert found.endswith("so it is not trained; " + THINK_CURE.format("rows"))


@pytest.mark.parametrize("skipped", ["system", "tool", "user"])
def test_a_turn_that_the_template_leaves_out_is_named(use, skipped):
    template = CHATML.replace("in messages", f"in messages if message.role != '{skipped}' or message.content == 'kept'")
    assert template != CHATML
    result = [{"role": "tool", "content": "a result"}, {"role": "assistant", "content": "Two"}]
    plain = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "kept" if skipped != "user" else "left out"},
        {"role": "assistant", "content": "One"},
        *(result if skipped == "tool" else []),
    ]
    found = fault_of(use(template), {"messages": plain}, modes=False)
    told = NOT_WRITTEN.format(skipped)
    if skipped == "system":
        told = told.replace("correct the row", "write system_turn: into_user for the source")
    assert found == told


def test_a_masked_turn_that_is_trained_is_named(use):
    bad, good = {"role": "assistant", "content": "BAD", "weight": 0}, {"role": "assistant", "content": "3"}
    row = {"messages": [QUESTION, bad, QUESTION, good], **mode(False)}
    whole = trained_turns(use(None), row)
    kept = replace(whole, spans=whole.spans[1:], turns=whole.turns[1:])
    assert row_fault(kept) is None
    wide = replace(kept, spans=[(whole.spans[0][0], whole.spans[1][1])])
    assert row_fault(wide) == TRAINED.format("assistant")


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ('say "hi"\n', '{"text": "say \\"hi\\"\\n"}'),
        ("d\u00e9j\u00e0", '{"text": "d\\u00e9j\\u00e0"}'),
        (True, "text=True"),
        (None, '{"text": null}'),
        ({"deep": [1, {"x": "y z"}]}, '{"text": {"deep": [1, {"x": "y z"}]}}'),
        ("two\nlines", "<parameter=text>\ntwo\nlines\n</parameter>"),
    ],
)
def test_values_of_a_call_are_found_however_they_are_written(use, value, written):
    call = {"type": "function", "function": {"name": "add", "arguments": {"text": value}}}
    messages = [QUESTION, {"role": "assistant", "tool_calls": [call]}]
    turns = trained_turns(use(None), {"messages": messages, "xml_tools": TOOLS, **mode(False)})
    start, end = turns.spans[0]
    said = f"add {written}<|im_end|>"
    shown = replace(turns, text=turns.text[:start] + said + turns.text[end:], spans=[(start, start + len(said))])
    assert row_fault(shown) is None
    lost = shown.text.replace(written, "text")
    fault = row_fault(replace(shown, text=lost, spans=[(start, start + len(said) - len(shown.text) + len(lost))]))
    assert fault == CALL_WITHOUT.format("the value of its argument text")


def test_answers_must_end_with_the_token_that_stops_generation(use):
    row = chat("1 + 2?", "3", False)
    assert fault_of(use(None), row, ends=("<|im_end|>", "<|endoftext|>")) is None
    fault = fault_of(use(None), row, ends=("<|endoftext|>", "<|im_end|>"))
    assert "expected <|endoftext|>, at which generation stops, behind the last answer, got <|im_end|>, so" in fault


def test_a_row_trained_as_a_whole_is_held_to_its_turns(use):
    item = parse_conversation(chat("1 + 2?", "3", False), {})
    text = use(None).text(item)
    assert whole_row_fault(item, text, True) is None
    fault = whole_row_fault(item, text.replace("1 + 2?", ""), True)
    assert fault == NOT_WRITTEN.format("user")
    assert whole_row_fault(item, text.replace("\n3<", "\n<"), True) == NOT_ALL


@pytest.mark.parametrize(
    ("role", "words"), [("user", "Explain what /think means in it"), ("system", "Use /no_think unless told")]
)
@pytest.mark.parametrize("template", [None, CHATML])
def test_words_that_choose_a_mode_are_words_where_a_template_writes_them(use, role, words, template):
    turns = [{"role": role, "content": words}, QUESTION, {"role": "assistant", "content": "3"}]
    row = {"messages": turns if role == "system" else [turns[0], turns[2]], **mode(False)}
    assert fault_of(use(template), row) is None


def test_an_earlier_end_than_the_last_is_no_fault_behind_which_the_user_speaks(use):
    row = chat("1 + 2?", "3", False)
    row["messages"].append({"role": "user", "content": "Thanks"})
    assert fault_of(use(None), row, ends=("<|endoftext|>", "<|im_end|>")) is None


def test_think_blocks_are_opened_as_often_as_closed(use):
    row = chat("Q", "<think>\na\n</think>\nb\n</think>\nc", True)
    assert fault_of(use(None), row).startswith("expected as many <think> as </think> in an answer, got unequal numbers")


def test_a_tag_inside_a_call_is_no_reasoning(use):
    call = {"type": "function", "function": {"name": "add", "arguments": {"text": "<think>hm</think>"}}}
    row = {"messages": [QUESTION, {"role": "assistant", "content": "So:", "tool_calls": [call]}], **mode(False)}
    assert fault_of(use(None), row) is None


ALWAYS_OPENS = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' + ('<think>\n' if m.role == 'assistant' else '') -}}"
    "{{- m.content + '<|im_end|>\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n<think>\n' -}}{%- endif -%}"
)
CLOSED = "hm\n</think>\n\n4"


def test_a_block_that_the_template_opens_is_closed_by_every_answer_not_the_last_alone(use):
    assert fault_of(use(ALWAYS_OPENS), two_answers(CLOSED, CLOSED)) is None
    fault = fault_of(use(ALWAYS_OPENS), two_answers("4", CLOSED))
    assert fault.startswith("expected </think> in an answer before which the chat template opens a think block")


@pytest.mark.parametrize(
    ("template", "answer", "fault"),
    [
        (CHATML, f"<think>\n{CLOSED}", None),
        (ALWAYS_OPENS, CLOSED, None),
        (CHATML, "The tag <think> is a word.", None),
        (CHATML, CLOSED, "expected <think> before the </think> of an answer, got none"),
        (ALWAYS_OPENS, "4", "expected </think> in an answer before which the chat template opens a think block"),
        (ALWAYS_OPENS, f"<think>\n{CLOSED}", "expected as many <think> as </think> in an answer, got unequal numbers"),
    ],
)
def test_think_blocks_of_a_row_trained_as_a_whole_are_balanced(use, template, answer, fault):
    """What the user says of the tags is the user's."""
    kwargs = {"enable_thinking": False} if "word" in answer else {}  # a think row closes what it opens
    item = parse_conversation(chat("Is <think> a tag, and </think>, and <think>?", answer), kwargs)
    found = whole_row_fault(item, use(template).text(item), False)
    assert (found is None) == (fault is None)
    assert (fault or "") in (found or "")


@pytest.mark.parametrize("answer", ["So <think>hm</think>4", "<think>a</think>One <think>b</think>4"])
def test_words_between_think_blocks_are_not_lost(use, answer):
    """Templates that take an answer apart at its tags keep the first block and what stands behind the last."""
    assert fault_of(use(CHATML), chat("Q", answer), modes=False) is None
    found = fault_of(use(QWEN3_LIKE), two_answers(answer, f"<think>\n{CLOSED}"))
    assert found == NOT_ALL


def two_answers(*said: str) -> dict:
    return {"messages": [turn for text in said for turn in (QUESTION, {"role": "assistant", "content": text})]}


def test_one_of_two_calls_that_are_the_same_is_not_lost(use):
    calls = "(message.tool_calls{} | tojson if message.tool_calls else message.content)"
    row = {"messages": [QUESTION, {"role": "assistant", "tool_calls": [CALL, CALL]}]}
    assert fault_of(use(MARKED.replace("message.content +", calls.format("") + " +")), row, modes=False) is None
    found = fault_of(use(MARKED.replace("message.content +", calls.format("[:1]") + " +")), row, modes=False)
    assert found == CALL_WITHOUT.format("a second one of add")


def test_a_call_that_the_template_does_not_write_is_missed_of_context_too(use):
    """A turn that flags mask is context: without its call a result follows nothing."""
    called = [QUESTION, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "3"}]
    row = {"messages": [*called, {"role": "assistant", "content": "It is 3"}], **mode(False)}
    for template, told in ((None, None), (CHATML, "got a text without its name add, so what follows the call would")):
        turns = trained_turns(use(template), row)
        fault = row_fault(replace(turns, spans=turns.spans[1:], turns=turns.turns[1:]))
        assert fault is None if told is None else told in fault
