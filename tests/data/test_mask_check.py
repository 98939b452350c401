"""The mask check passes good rows, names each fault, and stops the launch."""

import pytest
from conftest import CHATML
from data_helpers import CALL, ROWS, THOUGHT
from helpers import chat, python

from apo_soup.data.conversation import parse_conversation
from apo_soup.data.mask_check import CheckedRow, check_row
from apo_soup.errors import UserError


def check_rendered(use, row, change=lambda text, spans: spans, kept=None):
    """Run the mask check on a row as our template renders it, with its spans or its trained text changed."""
    item = parse_conversation(row, {})
    rendered = use(None).conversation(item)
    spans = change(rendered.text, rendered.spans)
    trained = kept or [rendered.text[a:b] for a, b in spans]
    check_row(CheckedRow("s", "f:1", item, rendered.text, spans, trained, item.answers), ["<|im_end|>"])


def test_the_mask_check_passes_good_rows_and_names_each_fault(use):
    good = chat("Question?", THOUGHT, True)
    check_rendered(use, good)
    check_rendered(use, chat("Q", "4", False))
    with pytest.raises(UserError, match="source s, row f:1: no token of this row is trained"):
        check_rendered(use, good, kept=[""])
    with pytest.raises(UserError, match="the empty think block that the template prefills is trained"):
        check_rendered(use, chat("Q", "4", False), lambda text, spans: [(text.index("<think>"), len(text) - 1)])
    with pytest.raises(UserError, match="end-of-turn token"):
        check_rendered(use, good, lambda text, spans: [(spans[0][0], spans[0][1] - 10)])
    with pytest.raises(UserError, match="think row trains on no reasoning"):
        check_rendered(use, chat("Q", "4", True))
    with pytest.raises(UserError, match="no-think row trains on reasoning"):
        check_rendered(use, chat("Q", THOUGHT, False))
    with pytest.raises(UserError, match="an answer of the assistant is not trained"):
        check_rendered(use, chat("Q", "four", False), kept=["<|im_end|>"])


@pytest.mark.parametrize("role", ["system", "user", "tool"])
def test_the_mask_check_finds_any_other_turn_that_is_trained(use, role):
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

    check_rendered(use, row)
    with pytest.raises(UserError, match=f"the text of a {role} turn is trained"):
        check_rendered(use, row, widen)


def test_what_a_template_does_not_render_stops_the_mask_check(use):
    def checked(messages, template=CHATML, **kwargs):
        item = parse_conversation({"messages": messages, "chat_template_kwargs": kwargs}, {})
        renderer = use(template)
        rendered = renderer.conversation(item)
        kept = [rendered.text[a:b] for a, b in rendered.spans]
        check_row(
            CheckedRow("s", "f:1", item, rendered.text, rendered.spans, kept, item.answers, modes=False), renderer.ends
        )

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


def test_answers_must_end_with_the_token_that_stops_generation(use):
    renderer = use(None)
    item = parse_conversation(chat("1 + 2?", "3", False), {})
    rendered = renderer.conversation(item)
    kept = [rendered.text[slice(*rendered.spans[0])]]
    sample = CheckedRow("s", "s:1", item, rendered.text, rendered.spans, kept, item.answers)
    check_row(sample, ("<|im_end|>", "<|endoftext|>"))
    with pytest.raises(UserError, match=r"answers end with <\|im_end\|> and generation stops at <\|endoftext\|>"):
        check_row(sample, ("<|endoftext|>", "<|im_end|>"))


def test_the_mask_check_stops_a_source_and_shows_the_row(training_recipe):
    path = training_recipe([*ROWS, chat("Q?", "no thought here", True)])
    result = python("-m", "apo_soup", "prepare", "--config", path)
    assert result.returncode == 2
    assert "rows.jsonl:82: a think row trains on no reasoning" in result.stderr
    assert "no thought here" in result.stderr
    assert not list((path.parent / "run" / "prepared").glob("sft-*"))


def test_whole_rows_are_held_to_their_mode_too(training_recipe):
    rows = [chat("Q?", "A", False)] * 3 + [chat("Q?", "<think>\nso\n</think>\nA", False)]
    result = python("-m", "apo_soup", "prepare", "--config", training_recipe(rows, assistant_only_loss=False))
    assert result.returncode == 2
    assert "a no-think row trains on reasoning" in result.stderr
