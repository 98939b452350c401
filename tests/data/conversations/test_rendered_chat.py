"""Texts that are a rendered chat."""

import pytest
from data_helpers import options, parsed_row

from apo_soup.data.conversations.conversation import PlainText
from apo_soup.data.conversations.rendered_chat import ends_as_prompt, rendered_chat_fault
from apo_soup.data.encode_supervised import SupervisedEncoder, spans_with_loss
from apo_soup.data.sources.rows import RowError

CHAT = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nyo<|im_end|>\n"


def test_a_rendered_chat_is_refused_where_only_the_assistant_is_trained(tokenizer):
    encoder = SupervisedEncoder(tokenizer, options(assistant_only_loss=True))
    with pytest.raises(RowError, match=r"^field text: expected messages where .* rendered chat \(<\|im_start\|>\), .*"):
        encoder.parsed({"text": CHAT}, {})
    assert encoder.parsed({"text": "Once."}, {}) == PlainText("Once.")


def test_it_is_trained_as_a_whole_with_its_own_end_otherwise(use):
    assert spans_with_loss(PlainText(CHAT), use(None), options()) == (CHAT, [(0, len(CHAT))])
    assert spans_with_loss(PlainText("Once."), use(None), options(assistant_only_loss=True))[0] == "Once.<|im_end|>"


@pytest.mark.parametrize(
    "text",
    [
        "<s>[INST] hi [/INST] yo</s>",
        "<|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|>",
        "<start_of_turn>user\nhi<end_of_turn>\n",
        "<｜User｜>hi<｜Assistant｜>yo",
        "<|start|>user<|message|>hi<|end|>",
        "<|user|>\nhi<|end|>\n<|assistant|>\nyo",
        "### Human: hi### Assistant: yo",
        "\n\nHuman: hi\n\nAssistant: yo",
        "USER: hi ASSISTANT: yo</s>",
        "Below is an instruction that describes a task.\n\n### Instruction:\nhi\n\n### Response:\nyo",
        "Be brief.\n\n### Instruction:\nhi\n\n### Response:\nyo",
        "<|begin_of_text|>User: hi<end_of_utterance>\nAssistant: yo<end_of_utterance>\n",
    ],
)
def test_chats_of_many_families_are_known(text):
    assert rendered_chat_fault(text)


@pytest.mark.parametrize(
    "text", ["if a <|b|> c:", "[INSTALL] it", "x <start> y", "user: hi", "a|im_start|b", "x\n\n### Instruction: y"]
)
def test_other_texts_are_not(text):
    assert rendered_chat_fault(text) is None


HUMAN = "\n\nHuman: hi\n\nAssistant:"


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"chosen": f"{HUMAN} yo", "rejected": f"{HUMAN} yo\n\nAssistant: no"}, "chosen"),
        ({"chosen": f"{HUMAN} yo", "rejected": "no"}, "chosen"),
        ({"prompt": "hi", "chosen": f"{HUMAN} yo", "rejected": f"{HUMAN} no"}, "chosen"),
        ({"prompt": "hi", "chosen": "yo", "rejected": f"{HUMAN} no"}, "rejected"),
        ({"prompt": "hi", "completion": f"{HUMAN} yo"}, "completion"),
    ],
)
def test_an_answer_that_is_a_whole_dialogue_is_refused(row, field):
    with pytest.raises(
        RowError, match=rf"field {field}: expected an answer, got a rendered chat \(Human:\), every turn"
    ):
        parsed_row(row, pairs="chosen" in row)


def test_two_dialogues_in_texts_are_a_pair_of_turns():
    """As HH-RLHF's rows are. A speaker's name inside a paragraph begins no turn."""
    before = f"{HUMAN} Who are you?\n\nI mean it.\n\nHuman: say\nHuman: x"
    row = {"chosen": f"{before}\n\nAssistant: yo", "rejected": f"{before}\n\nAssistant: no"}
    _, pair = parsed_row(row, pairs=True)
    assert [(m["role"], m["content"]) for m in pair.in_order] == [
        ("user", "hi"),
        ("assistant", "Who are you?\n\nI mean it."),
        ("user", "say\nHuman: x"),
        ("assistant", "yo"),
    ]
    assert pair.rejected == [{"role": "assistant", "content": "no"}]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (HUMAN, "Assistant:"),
        ("### Instruction:\nhi\n\n### Response:\n\0yo", "### Response:"),
        ("USER: hi ASSISTANT: \0yo", "ASSISTANT:"),
        ("What does Assistant: mean?", None),
        ("name it:\0yo", None),
    ],
)
def test_a_prompt_that_ends_with_the_assistants_name_is_known(text, name):
    assert ends_as_prompt(text) == name
