"""Reasoning between tags that neither tokenizer nor template know is reasoning, where nothing speaks against it."""

import copy
import json

import pytest
from conftest import CHATML
from data_helpers import encoded_row, options
from helpers import chat, preference
from tokenizers import AddedToken

from apo_soup.data.conversations.conversation import parse_conversation
from apo_soup.data.conversations.tagged_thoughts import (
    FRAME_TAKEN_OFF,
    KEPT_AS_ASKED,
    READ_AS_BLOCK,
    STILL_ASKED_FOR,
    with_think_blocks,
)
from apo_soup.data.documents import Document
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.models.think_tags import tagged_thought

TAGS = [
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<reasoning>", "</reasoning>"),
    ("<thought>", "</thought>"),
    ("<thinking>", "</thinking>"),
    ("<Thought>", "</Thought>"),
    ("[THINK]", "[/THINK]"),
    ("<|thinking|>", "<|/thinking|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<seed:think>", "</seed:think>"),
    ("◁think▷", "◁/think▷"),
    ("<scratchpad>", "</scratchpad>"),
]
OPEN_THOUGHTS = "<|begin_of_thought|>\n\nHm.\n\n<|end_of_thought|>\n\n<|begin_of_solution|>\n\n4\n\n<|end_of_solution|>"
FRAME = ("<|begin_of_solution|>", "<|end_of_solution|>")
BLOCK = "<think>\nHm.\n</think>\n\n4"


def encoded(tokenizer, row, pairs=False, **source):
    """What becomes of one row, its trained texts, and the remarks on it."""
    result, remarks = encoded_row(tokenizer, row, pairs, checked=True, **source)
    assert isinstance(result, Document), result
    ids, ranges, *_ = result.parts[0]
    texts = [tokenizer.decode(part) for part in result.parts[0][1:]] if pairs else []
    for first, last in zip(ranges[::2], ranges[1::2], strict=True) if not pairs else ():
        texts.append(tokenizer.decode(ids[first:last]))
    return result, texts, remarks


@pytest.mark.parametrize(("opening", "closing"), TAGS)
def test_tags_that_nobody_knows_are_read_and_counted(tokenizer, opening, closing):
    result, texts, remarks = encoded(tokenizer, chat("2 + 2?", f"{opening}Hm.{closing}4"))
    assert (result.mode, texts) == ("think", [BLOCK + "<|im_end|>"])
    assert remarks == [READ_AS_BLOCK.format(opening, closing)]
    assert result.reasoning > 0


def test_the_frame_around_a_solution_goes_with_the_tags_of_its_thought():
    whole = tagged_thought(OPEN_THOUGHTS)
    assert (whole.text, whole.frame) == (BLOCK, FRAME)
    answer = "<answer>4</answer>"  # a form that a prompt asked for, which whoever reads the answer looks for
    assert tagged_thought(f"<reasoning>Hm.</reasoning>\n{answer}").text == f"<think>\nHm.\n</think>\n\n{answer}"
    open_frame = "<|begin_of_thought|>Hm.<|end_of_thought|><|begin_of_solution|>4"
    assert tagged_thought(open_frame).text == "<think>\nHm.\n</think>\n\n<|begin_of_solution|>4"


@pytest.mark.parametrize(
    "content",
    [
        "<reasoning>Hm. 4",
        "<reasoning></reasoning>4",
        "<reasoning>Hm.</reasoning>",
        "<reasoning>Hm.</reasoning>4<reasoning>Hm.</reasoning>5",
        "<reasoning>Hm.</reasoning>4 </reasoning>",
        "So: <reasoning>Hm.</reasoning>4",
        "<reasoning>Hm.</thinking>4",
        "<reflection>Hm.</reflection>4",
        "<reasoning_effort>low</reasoning_effort>4",
        "[Thought](http://a.org) 4",
    ],
)
def test_what_may_be_words_stays_words(content):
    row = parse_conversation(chat("2 + 2?", content), {})
    assert with_think_blocks(row, lambda tag: False) == (row, [])


def test_reasoning_in_another_place_keeps_the_tags_as_words():
    for answer in (
        {"role": "assistant", "content": "<reasoning>Hm.</reasoning>4", "reasoning_content": "Ah."},
        {"role": "assistant", "content": "<reasoning>Hm.</reasoning>4 <think>Ah.</think>5"},
    ):
        row = parse_conversation({"messages": [{"role": "user", "content": "2 + 2?"}, answer]}, {})
        assert with_think_blocks(row, lambda tag: False)[0] is row


def test_tags_that_a_tokenizer_or_a_template_knows_are_theirs(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_tokens([AddedToken("[THINK]", special=False), AddedToken("[/THINK]", special=False)])
    tokenizer.chat_template = "{# <thought> #}" + tokenizer.chat_template
    encoder = SupervisedEncoder(tokenizer, options(assistant_only_loss=True))
    for content in ("[THINK]Hm.[/THINK]4", "<thought>Hm.</thought>4"):
        assert encoder.read(chat("2 + 2?", content), {})[0].messages[-1]["content"] == content
    assert encoder.read(chat("2 + 2?", "<thinking>Hm.</thinking>4"), {})[0].messages[-1]["content"] == BLOCK
    off, _ = encoder.read(chat("2 + 2?", "<thinking>Hm.</thinking>4", False), {})
    assert off.messages[-1]["content"] == "<thinking>Hm.</thinking>4"
    tokenizer.chat_template = CHATML  # knows no reasoning
    _, texts, remarks = encoded(tokenizer, {"messages": chat("2 + 2?", "<reasoning>Hm.</reasoning>4")["messages"]})
    assert texts == ["<reasoning>Hm.</reasoning>4<|im_end|>"]
    assert remarks[0].startswith("warning: a text holds <reasoning>, which is trained as words, not as reasoning")


def test_both_answers_of_a_pair_and_every_turn_of_a_conversation_are_read(tokenizer):
    row = preference("2 + 2?", OPEN_THOUGHTS, "<thinking>Um.</thinking>5")
    row["chat_template_kwargs"] = {"enable_thinking": True}
    _, texts, remarks = encoded(tokenizer, row, pairs=True)
    assert texts == [BLOCK + "<|im_end|>", "<think>\nUm.\n</think>\n\n5<|im_end|>"]
    assert remarks == [
        READ_AS_BLOCK.format(*TAGS[3]),
        READ_AS_BLOCK.format(*TAGS[0]),
        FRAME_TAKEN_OFF.format(*FRAME),
    ]
    turns = chat("2 + 2?", OPEN_THOUGHTS)["messages"]
    _, texts, _ = encoded(tokenizer, {"messages": [*turns, *turns]})
    assert texts == [BLOCK + "<|im_end|>"] * 2


def test_a_source_of_such_rows_is_no_no_think_source(tokenizer, training_recipe):
    from data_helpers import prepared

    rows = [chat(f"{n} + 2?", OPEN_THOUGHTS) for n in range(20)]
    for row in rows:
        row.pop("chat_template_kwargs", None)
    _, _, stats = prepared(training_recipe(rows))
    assert [(s["mode"], s["kept"]) for s in stats["sources"] if s["kept"]] == [("think", 20)]
    assert json.dumps(stats["remarks"]).count("was read as a think block") == 1


def test_a_system_text_that_asks_for_the_tags_is_named_with_the_cure(tokenizer):
    turns = chat("2 + 2?", OPEN_THOUGHTS)["messages"]
    asked = {"role": "system", "content": "Think between <|begin_of_thought|> and <|end_of_thought|>."}
    row = {"messages": [asked, *turns]}
    assert STILL_ASKED_FOR.format("<|begin_of_thought|>") in encoded(tokenizer, row)[2]
    remarks = encoded(tokenizer, row, system_turn="drop")[2]
    assert remarks == [
        "system_turn: drop left out the system text",
        READ_AS_BLOCK.format(*TAGS[0]),
        FRAME_TAKEN_OFF.format(*FRAME),
    ]


def test_tags_that_a_user_or_the_instructions_ask_for_stay_words():
    answer = "<reasoning>2+2</reasoning>\n<answer>4</answer>"
    asked = parse_conversation(chat("Reply as <reasoning>..</reasoning><answer>..</answer>. 2+2?", answer), {})
    instructed = parse_conversation(chat("2+2?", answer), {"custom_instructions": "Reason in <reasoning>."})
    for row in (asked, instructed):
        assert with_think_blocks(row, lambda tag: False) == (row, [KEPT_AS_ASKED.format("<reasoning>")])
