"""Replies of servers as completions."""

from types import SimpleNamespace

import pytest

from apo_soup.models.endpoint.reply import error_in_reply, may_pass, openai_turn, reply_completion, reply_fault


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
    ("content", "extra", "text"),
    [
        (["a", {"type": "text", "text": "b"}, {"type": "image_url"}, {"type": "output_text", "text": "c"}], {}, "abc"),
        (
            [{"type": "thinking", "thinking": [{"type": "text", "text": "2 + 2"}]}, {"type": "text", "text": "4"}],
            {},
            "<think>\n2 + 2\n</think>\n\n4",
        ),
        (
            [{"type": "thinking", "thinking": "2 + 2"}, {"type": "text", "text": "4"}],
            {},
            "<think>\n2 + 2\n</think>\n\n4",
        ),
        ("4", {"reasoning": [{"type": "text", "text": "2 + 2"}]}, "<think>\n2 + 2\n</think>\n\n4"),
        (None, {"reasoning_content": "2"}, "<think>\n2\n</think>\n\n"),
        ("4", {"thinking": "2 + 2"}, "<think>\n2 + 2\n</think>\n\n4"),
        (
            "4",
            {
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "2 "},
                    {"type": "reasoning.text", "text": "+ 2"},
                ]
            },
            "<think>\n2 + 2\n</think>\n\n4",
        ),
        ("4", {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}, "4"),
        ("4", {"reasoning_details": [{"type": "reasoning.text", "signature": "s"}]}, "4"),
        ("4", {"reasoning_details": {"type": "reasoning.text", "text": "2"}}, "<think>\n2\n</think>\n\n4"),
        ("4", {"reasoning_details": "2", "reasoning": {"effort": "high"}}, "<think>\n2\n</think>\n\n4"),
        ("4", {"thinking": True, "reasoning_details": 3}, "4"),
        ([{"type": "thinking", "signature": "s"}, {"type": "text", "text": "4"}], {}, "4"),
        ("\n[THINK]2 + 2[/THINK]4", {}, "\n<think>2 + 2</think>4"),
        ("<thought>\n2 + 2", {}, "<think>\n2 + 2"),
        ("It says <thought> here.", {}, "It says <thought> here."),
    ],
)
def test_parts_of_an_answer_are_text_and_reasoning(content, extra, text):
    message = SimpleNamespace(content=content, model_extra=extra)
    reply = SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason="stop")])
    assert reply_fault(reply) is None
    assert reply_completion(reply).text == text


@pytest.mark.parametrize(
    ("reason", "finished", "problem"),
    [
        ("STOP", True, None),
        ("COMPLETE", True, None),
        ("length", False, None),
        (None, False, "an answer of which the server does not say how it ended"),
        ("", False, "an answer of which the server does not say how it ended"),
        ("content_filter", False, "the server's content filter"),
    ],
)
def test_how_an_answer_ended_is_read_in_any_letters_and_never_guessed(reason, finished, problem):
    message = SimpleNamespace(content="4", model_extra={})
    reply = SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason=reason)])
    found = reply_completion(reply)
    assert (found.finished, found.problem) == (finished, problem)


def test_a_refusal_is_no_empty_answer():
    message = SimpleNamespace(content=None, model_extra={}, refusal="I can't.")
    reply = SimpleNamespace(choices=[SimpleNamespace(message=message, finish_reason="stop")])
    assert reply_completion(reply).problem == "a refusal in the answer's place"


@pytest.mark.parametrize(
    ("reply", "told", "passes"),
    [
        ({"object": "error", "message": "too long", "code": 400}, {"code": 400, "message": "too long"}, False),
        ({"object": "error", "message": "busy", "code": 503}, {"code": 503, "message": "busy"}, True),
        ({"choices": [], "detail": "blocked"}, {"code": None, "message": "blocked"}, False),
        ({"choices": [SimpleNamespace(message=None)], "message": "hello"}, None, None),
        ({"choices": None}, None, None),
    ],
)
def test_an_error_may_stand_in_the_place_of_the_choices(reply, told, passes):
    found = error_in_reply(SimpleNamespace(**reply))
    assert found == told
    assert passes is None or may_pass(found) is passes


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
