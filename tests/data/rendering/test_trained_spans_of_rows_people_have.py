"""Rows as people have them under the templates of families: trained as they say, or refused with the reason."""

import json
from typing import Any

import pytest
from data_helpers import options, shipped_tokenizer

from apo_soup.data.conversations.formats import formats_of, recognise
from apo_soup.data.documents import Document, RowToEncode
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.data.sources.rows import SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.data.trained_ranges import range_list

ONE, TWO, FIRST, SECOND = "Question one?", "Question two?", "Answer one.", "Answer two."
SCHEMA = {"type": "object", "properties": {"word": {"type": "string", "description": "A word."}}, "required": ["word"]}
TOOLS = [{"type": "function", "function": {"name": "look", "description": "Finds a word.", "parameters": SCHEMA}}]
NO_FIELD = dict.fromkeys(("name", "tool_calls", "function_call", "reasoning_content", "thinking", "tool_call_id"))


def user(text: str, **beside: Any) -> dict:
    return {"role": "user", "content": text, **beside}


def said(text: str | None, **beside: Any) -> dict:
    return {"role": "assistant", "content": text, **beside}


def call(arguments: Any, own: str = "a1b2c3d4e", **beside: Any) -> dict:
    return {"id": own, "type": "function", "function": {"name": "look", "arguments": arguments}, **beside}


def result(text: str, own: str = "a1b2c3d4e", **beside: Any) -> dict:
    return {"role": "tool", "name": "look", "content": text, "tool_call_id": own, **beside}


def called(*turns: dict, **beside: Any) -> dict:
    return {"messages": [user(ONE), *turns], "tools": TOOLS, **beside}


ZEBRA, GNU = {"word": "zebra"}, {"word": "gnu"}
THINKING = {"chat_template_kwargs": {"enable_thinking": True}}
# Each row with the words of every trained answer; none: it is refused everywhere.
ROWS: dict[str, tuple[dict, list[list[str]]]] = {
    "masked first": ({"messages": [user(ONE), said("BAD.", weight=0), user(TWO), said(SECOND)]}, [[SECOND]]),
    "masked last": ({"messages": [user(ONE), said(FIRST), user(TWO), said("BAD.", train=False)]}, [[FIRST]]),
    "masked alike": ({"messages": [user(ONE), said("Yes.", loss=False), user(TWO), said("Yes.")]}, [["Yes."]]),
    "masked call": (called(said("", tool_calls=[call({"word": "BAD"})], weight=0), result("3"), said(FIRST)),
                    [[FIRST]]),
    "content and call": (called(said("Wait.", tool_calls=[call(ZEBRA)]), result("3"), said(FIRST)),
                         [["Wait.", "look", "zebra"], [FIRST]]),
    "two calls": (called(said("", tool_calls=[call(ZEBRA), call(GNU, "b1b2c3d4e")]), result("Horned.", "b1b2c3d4e"),
                         result("Striped."), said(FIRST)), [["zebra", "gnu"], [FIRST]]),
    "nested arguments": (called(said("", tool_calls=[call({"word": "zebra", "deep": {"of": ["él", 2, True]}})]),
                                result("3"), said(FIRST)), [["zebra", "deep", "él"], [FIRST]]),
    "two rounds": (called(said("", tool_calls=[call(ZEBRA)]), result("3"),
                          said("", tool_calls=[call(GNU, "b1b2c3d4e")]), result("4", "b1b2c3d4e"), said(FIRST)),
                   [["zebra"], ["gnu"], [FIRST]]),
    "result as its answer": (called(said("", tool_calls=[call(ZEBRA)]), result("3"), said("3")), [["zebra"], ["3"]]),
    "second id": (called(said("", tool_calls=[call(ZEBRA, "fc1", call_id="a1b2c3d4e")]), result("3", "fc1"),
                         said(FIRST)), [["zebra"], [FIRST]]),
    "text of text": (called(said("", tool_calls=[call(json.dumps(json.dumps(ZEBRA)))]), result("3"), said(FIRST)),
                     [["zebra"], [FIRST]]),
    "older call": (called(said("", function_call={"name": "look", "arguments": json.dumps(ZEBRA)}),
                          {"role": "function", "name": "look", "content": "3"}, said(FIRST)), [["zebra"], [FIRST]]),
    "no mapping": (called(said("", tool_calls=[call("[1]")]), result("3"), said(FIRST)), []),
    "not a number": (called(said("", tool_calls=[call('{"word": NaN}')]), result("3"), said(FIRST)), []),
    "null fields": ({"messages": [{**NO_FIELD, **user(ONE)}, {**NO_FIELD, **said(FIRST)}], "tools": None}, [[FIRST]]),
    "no calls": ({"messages": [user(ONE), said(FIRST, tool_calls=[])]}, [[FIRST]]),
    "completion": ({"prompt": [user(ONE), said("BAD."), user(TWO)], "completion": [said(SECOND)]}, [[SECOND]]),
    "parts": ({"messages": [user([{"type": "text", "text": ONE}]), said([{"type": "text", "text": FIRST}])]},
              [[FIRST]]),
    "two users": ({"messages": [user(ONE), user(TWO), said(FIRST)]}, [[FIRST]]),
    "assistant first": ({"messages": [said("Hello."), user(ONE), said(FIRST)]}, [["Hello."], [FIRST]]),
    "echo": ({"messages": [user("Echo."), said("Echo."), user("Echo."), said("Echo.")]}, [["Echo."], ["Echo."]]),
    "white space": ({"messages": [user(ONE), said("  Answer one. \n"), user(TWO), said("\nAnswer two.")]},
                    [[FIRST], [SECOND]]),
    "think tag of a user": ({"messages": [user("Say <think> now"), said(FIRST)]}, []),
    "reasoning": ({"messages": [user(ONE), said(FIRST, reasoning="Thought one.")], **THINKING},
                  [["Thought one.", FIRST]]),
    "reasoning in no-think": ({"messages": [user(ONE), said(FIRST, reasoning_content="Thought one.")]}, []),
    "end in a question": ({"messages": [user("x END y"), said(FIRST)]}, []),
    "end behind an answer": ({"messages": [user(ONE), said("Answer one.END"), user(TWO), said("Answer two.END")]},
                             [[FIRST], [SECOND]]),
}  # fmt: skip
ALWAYS = {name for name, (_, trained) in ROWS.items() if not trained}
CALLS = {name for name, (row, _) in ROWS.items() if row.get("tools")}
# What a family's template does not write, or has no room for, beside what is refused everywhere.
FAMILIES = {
    ("qwen3", "<|im_end|>"): set(),
    ("llama3_1", "<|eot_id|>"): {"content and call", "two calls", "reasoning"},
    ("gemma3", "<end_of_turn>"): {*CALLS, "two users", "assistant first", "reasoning"},
    ("gemma4_v2", "<turn|>"): {"reasoning"},
    ("gptoss", "<|return|>"): {"content and call", "two calls"},
    ("cohere2", "<|END_OF_TURN_TOKEN|>"): {*CALLS, "two users", "assistant first", "reasoning"},
    ("phi3", "<|end|>"): {*CALLS, "reasoning"},
    ("glm4moe_training", "<|user|>"): set(),
}


def outcome(encoder: SupervisedEncoder, row: dict, end: str) -> str | list[str]:
    """The trained texts of a row, or the reason why it is refused."""
    given = json.loads(json.dumps({"chat_template_kwargs": {"enable_thinking": False}, **row}).replace("END", end))
    task = RowToEncode(Source("rows"), SourceRow("rows:201", given), recognise(given, formats_of(False)), 1, False)
    (found,) = encoder([task]).results
    if not isinstance(found, Document):
        return found.reason
    ids, ranges = found.parts[0]
    return [encoder.tokenizer.decode(ids[first:last]) for first, last in range_list(ranges)]


@pytest.mark.parametrize(("family", "end"), FAMILIES)
def test_each_is_trained_as_it_says_or_refused(family, end):
    encoder = SupervisedEncoder(shipped_tokenizer(family, end), options(assistant_only_loss=True, max_length=4096))
    refused = {}
    for name, (row, trained) in ROWS.items():
        found = outcome(encoder, row, end)
        if isinstance(found, str):
            refused[name] = found
            continue
        assert len(found) == len(trained), (name, found)
        for words, text in zip(trained, found, strict=True):
            assert all(word in text for word in words), (name, found)
            assert text.endswith(tuple(encoder.renderer.ends)), (name, found)
            assert not text.removesuffix(end).rstrip().endswith(end), (name, found)
            assert not any(other in text for other in ("BAD", "Question", "Striped", "Horned")), (name, found)
    assert refused.keys() == ALWAYS | FAMILIES[family, end], refused
    assert all("expected " in reason and "; " in reason for reason in refused.values()), refused
