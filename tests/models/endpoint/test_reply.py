"""Replies of servers as completions."""

from types import SimpleNamespace

import pytest

from apo_soup.models.endpoint.reply import openai_turn, reply_completion, reply_fault


def test_reasoning_that_a_server_parsed_out_goes_back_into_its_block():
    chat = pytest.importorskip("openai.types.chat", reason="the openai package is not installed")
    message = {"role": "assistant", "content": "4", "reasoning_content": "2 + 2\n"}
    reply = {
        "id": "1",
        "created": 0,
        "model": "m",
        "object": "chat.completion",
        "usage": {"completion_tokens": 9, "prompt_tokens": 3, "total_tokens": 12},
        "choices": [{"index": 0, "finish_reason": "length", "message": message}],
    }
    found = reply_completion(chat.ChatCompletion.model_validate(reply))
    assert (found.text, found.tokens, found.finished) == ("<think>\n2 + 2\n</think>\n\n4", 9, False)


def test_a_block_that_the_template_opened_in_the_prompt_is_opened_in_the_answer():
    message = SimpleNamespace(content="so</think>\n4", model_extra={})
    usage = SimpleNamespace(completion_tokens=3)
    reply = SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason="stop")], usage=usage)
    assert reply_completion(reply).text == "<think>so</think>\n4"


@pytest.mark.parametrize(
    "reply", ["<html>", SimpleNamespace(choices=[], usage=SimpleNamespace()), SimpleNamespace(choices=None)]
)
def test_what_is_no_completion_has_a_fault(reply):
    assert "without choices or text" in reply_fault(reply)


def test_arguments_of_calls_are_sent_as_json():
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": "é"}}}
    sent = openai_turn({"role": "assistant", "content": "", "tool_calls": [call]})
    assert sent["tool_calls"][0]["function"] == {"name": "add", "arguments": '{"a": "é"}'}
    assert call["function"]["arguments"] == {"a": "é"}
    assert openai_turn({"role": "user", "content": "4?"}) == {"role": "user", "content": "4?"}
