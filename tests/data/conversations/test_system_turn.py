"""`system_turn`: system texts that are left out, or that become words of the first user turn."""

import copy

import pytest
from data_helpers import encoded_row
from helpers import chat

from apo_soup.data.conversations.conversation import parse_conversation
from apo_soup.data.conversations.pair import parse_pair
from apo_soup.data.conversations.system_turn import with_system_in_user_turn, without_system_turn
from apo_soup.data.documents import Document, Refused
from apo_soup.data.sources.rows import RowError

# As Mistral 7B Instruct v0.3's: the system text stands in the last user turn, where that ends the conversation.
LAST_USER = """{%- if messages[0]["role"] == "system" %}{%- set system = messages[0]["content"] %}
{%- set turns = messages[1:] %}{%- else %}{%- set turns = messages %}{%- endif %}
{%- for message in turns %}
{%- if message["role"] == "user" %}
{%- if loop.last and system is defined %}{{- "<|im_start|>" + system + "\n\n" + message["content"] + "<|im_end|>" }}
{%- else %}{{- "<|im_start|>" + message["content"] + "<|im_end|>" }}{%- endif %}
{%- else %}{{- message["content"] + "<|im_end|>" }}{%- endif %}
{%- endfor %}"""
NO_SYSTEM = (
    "{%- for message in messages %}{%- if message['role'] == 'system' %}"
    "{{- raise_exception('System role not supported') }}{%- endif %}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
ROW = {"messages": [{"role": "system", "content": "Be brief.\n"}, *chat("2 + 2?", "4")["messages"]]}
PAIR = {"prompt": ROW["messages"][:2], "chosen": "4", "rejected": "5"}
INTO_USER = "; write system_turn: into_user for the source, or choose another chat_template"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (LAST_USER, "expected the text of a system turn in what the chat template writes, got a text without it"),
        (NO_SYSTEM, "chat_template: expected a row that it takes, got a refusal: System role not supported"),
    ],
)
def test_a_template_without_a_place_for_system_texts_is_told_with_the_cure(tokenizer, template, told):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = template
    result, _ = encoded_row(tokenizer, ROW)
    assert isinstance(result, Refused)
    assert result.reason == told + INTO_USER
    result, remarks = encoded_row(tokenizer, ROW, system_turn="into_user")
    assert isinstance(result, Document)
    assert "Be brief.\n\n2 + 2?<|im_end|>" in tokenizer.decode(result.parts[0][0])
    assert remarks == ["system_turn: into_user wrote the system text into the first user turn"]


def test_pairs_have_the_same_cure(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = LAST_USER
    result, _ = encoded_row(tokenizer, PAIR, pairs=True)
    assert isinstance(result, Refused)
    assert result.reason.endswith(INTO_USER)
    result, _ = encoded_row(tokenizer, PAIR, pairs=True, system_turn="into_user")
    assert isinstance(result, Document)
    prompt, chosen, _ = map(tokenizer.decode, result.parts[0])
    assert (prompt, chosen) == ("<|im_start|>Be brief.\n\n2 + 2?<|im_end|>", "4<|im_end|>")


def test_what_one_turn_asks_is_asked_as_the_template_itself_asks_it(tokenizer):
    """A question alone: the words that training writes are those that the template writes for a system turn."""
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = LAST_USER
    asked = tokenizer.apply_chat_template(ROW["messages"][:2], tokenize=False)
    moved = with_system_in_user_turn(parse_conversation(ROW, {})).messages
    # The template strips nothing, and the key takes white space around the text off.
    assert tokenizer.apply_chat_template(moved[:1], tokenize=False) == asked.replace("brief.\n\n\n", "brief.\n\n")


def test_a_mode_that_the_system_text_states_stays(tokenizer):
    row = {"messages": [{"role": "system", "content": "Be brief. /no_think"}, *chat("2 + 2?", "4")["messages"]]}
    item = parse_conversation(row, {})
    for changed, first in (
        (without_system_turn(item), "2 + 2?"),
        (with_system_in_user_turn(item), "Be brief.\n\n2 + 2?"),
    ):
        assert (changed.mode, changed.kwargs) == ("no_think", {"enable_thinking": False})
        assert changed.messages[0] == {"role": "user", "content": first}
    result, remarks = encoded_row(tokenizer, row, system_turn="drop")
    assert isinstance(result, Document)
    assert "brief" not in tokenizer.decode(result.parts[0][0])
    assert remarks == ["system_turn: drop left out the system text"]


def test_a_word_for_no_text_of_the_templates_own_stays(tokenizer):
    turns = [{"role": "system", "content": "Be brief. /system_override"}, *chat("2 + 2?", "4")["messages"]]
    for word, mode in (("", {}), (" /no_think", {"enable_thinking": False})):
        row = {"messages": [{**turns[0], "content": turns[0]["content"] + word}, *turns[1:]]}
        for order, first in (("drop", "2 + 2?"), ("into_user", "Be brief.\n\n2 + 2?")):
            item = parse_conversation(row, {})
            changed = (without_system_turn if order == "drop" else with_system_in_user_turn)(item)
            assert changed.kwargs == {"system_override": True, **mode}
            assert changed.messages[0] == {"role": "user", "content": first}
    result, _ = encoded_row(tokenizer, row, system_turn="into_user")
    assert tokenizer.decode(result.parts[0][0]).startswith(
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\nBe brief."
    )


def test_rows_without_a_system_turn_are_as_they_were_and_others_refused(tokenizer):
    plain = parse_conversation(chat("2 + 2?", "4", False), {})
    assert without_system_turn(plain) is plain
    assert with_system_in_user_turn(plain) is plain
    greeting = parse_conversation({"messages": [ROW["messages"][0], {"role": "assistant", "content": "Hi"}]}, {})
    with pytest.raises(RowError, match="expected a user turn that the system text can be written into, got none"):
        with_system_in_user_turn(greeting)
    alone = parse_pair({"prompt": ROW["messages"][:1], "chosen": "4", "rejected": "5"}, {})
    with pytest.raises(RowError, match="system_turn: expected a turn beside the system turn, got none"):
        without_system_turn(alone)


def test_instructions_that_became_the_system_turn_go_along(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = NO_SYSTEM
    row = {**chat("2 + 2?", "4"), "chat_template_kwargs": {"custom_instructions": "Be brief."}}
    result, remarks = encoded_row(tokenizer, row, system_turn="into_user")
    assert isinstance(result, Document)
    assert "Be brief.\n\n2 + 2?<|im_end|>" in tokenizer.decode(result.parts[0][0])
    assert len(remarks) == 2


@pytest.mark.parametrize(
    ("turns", "told"),
    [
        (["assistant", "user", "assistant"], "got a turn of the assistant; write turn_order: drop_leading too"),
        (["system", "user", "assistant"], "got a turn of the system; correct the row"),
    ],
)
def test_a_system_text_stands_before_every_answer_that_it_is_by(turns, told):
    said = [{"role": role, "content": role} for role in ["system", *turns]]
    with pytest.raises(RowError) as error:
        with_system_in_user_turn(parse_conversation({"messages": said}, {}))
    assert str(error.value) == (
        "system_turn: expected the user's turn behind the system text, which can be written into it, " + told
    )
