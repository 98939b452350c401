"""Chat completions as OpenAI-compatible servers send them, and turns as they take them.

A reply is `Any` here: the client does not check what a server sends, and servers differ.
"""

import json
import re
from typing import Any

from apo_soup.models.completion import Completion
from apo_soup.models.think_tags import END_OF_THINKING, THINKING, in_common_tags

# Words, in small letters, by which servers say that an answer ended by itself.
ENDED_BY_ITSELF = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "end", "complete", "completed")
UNTOLD_END = "an answer of which the server does not say how it ended"
# Codes of client errors in a reply that may pass by themselves, and words that tell as much where there is no code.
PASSING_CODES = (408, 409, 425, 429)
PASSING_WORDS = re.compile(
    r"rate.?limit|overload|time.?out|timed.?out|unavailable|server.?error|internal", re.IGNORECASE
)
# Where the words of an error stand in a reply that has no choices; kinds of parts that are text.
WORDS_OF_ERRORS = ("message", "detail", "msg")
SPOKEN_PARTS = ("text", "output_text")
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking")
REASONING_DETAILS = ("reasoning.text", "text")
REFUSAL = "a refusal in the answer's place"
# Words by which servers say that an answer ended with a tool call.
CALLED = ("tool_calls", "function_call")
UNREAD_CALL = "a tool call in the server's reply that cannot be read"
# What a server may have done to an answer, by its finish_reason; of calls where it hands none over.
ALTERED_BY_SERVER = {
    "tool_calls": "tool calls taken out of the answer by the server",
    "function_call": "a function call taken out of the answer by the server",
    "content_filter": "the server's content filter",
}


def reply_fault(reply: Any) -> str | None:
    """Why a reply is no chat completion with text, such as a gateway's page or half a body; or None
    where it is one.
    """
    try:
        message = reply.choices[0].message
        texts = (message_text(message.content), message_reasoning(message))
    except (AttributeError, TypeError, IndexError, KeyError):
        complete = False
    else:
        complete = all(isinstance(text, str) for text in texts)
    return None if complete else "an answer without choices or text"


def reply_tokens(reply: Any, name: str) -> int | None:
    """A count of a reply's usage, `prompt_tokens` or `completion_tokens`; None where the server does not tell it."""
    count = getattr(getattr(reply, "usage", None), name, None)
    return count if isinstance(count, int) and not isinstance(count, bool) and count >= 0 else None


def error_in_reply(reply: Any) -> Any:
    """The error that some servers send with the status of success, beside the choices, in the first, or in their place;
    None where there is none.
    """
    choices = getattr(reply, "choices", None)
    places = [reply, *(choices[:1] if isinstance(choices, list) else [])]
    told = next((told for told in (getattr(place, "error", None) for place in places) if told), None)
    if told or choices:
        return told
    words = [text for name in WORDS_OF_ERRORS if isinstance(text := getattr(reply, name, None), str) and text.strip()]
    return {"code": getattr(reply, "code", None), "message": words[0]} if words else None


def may_pass(told: Any) -> bool:
    """Whether an error in a reply is of the server's state and not of the prompt: by its code, else by its words."""
    code = told.get("code", told.get("status")) if isinstance(told, dict) else None
    if isinstance(code, int) or (isinstance(code, str) and code.isdigit()):
        return int(code) >= 500 or int(code) in PASSING_CODES
    return bool(PASSING_WORDS.search(str(told)))


def message_text(content: Any) -> Any:
    """A message's content as text; some servers send it in parts."""
    if isinstance(content, list):
        parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
        return "".join(part["text"] for part in parts if part.get("type") in SPOKEN_PARTS)
    return "" if content is None else content


def message_reasoning(message: Any) -> str:
    """The reasoning that a server parsed out of the content, by one of its usual names, in detail, or in parts of its
    own; "" where there is none.
    """
    extra = message.model_extra or {}
    parts = message.content if isinstance(message.content, list) else []
    told = next(filter(None, (_words(extra.get(name)) for name in REASONING_FIELDS)), "")
    thought = [part.get("thinking") for part in parts if isinstance(part, dict) and part.get("type") == "thinking"]
    return told or "".join(map(_words, thought)) + _words(extra.get("reasoning_details"), REASONING_DETAILS)


def _words(value: Any, kinds: tuple[str, ...] = SPOKEN_PARTS) -> str:
    """The words of a text or of parts of these kinds; what is neither, such as a flag or a signature, has none."""
    words = []
    for part in value if isinstance(value, list) else [value]:
        text = part.get("text") if isinstance(part, dict) and part.get("type") in kinds else part
        words += [text] if isinstance(text, str) else []
    return "".join(words)


def message_calls(message: Any) -> list[dict[str, Any]] | None:
    """The tool calls that a server parsed out of the content, each with `name` and `arguments`; None where one cannot
    be read. The one call of OpenAI's older form is a call too.
    """
    older = getattr(message, "function_call", None)
    functions = [getattr(call, "function", None) for call in getattr(message, "tool_calls", None) or []]
    calls = []
    for function in functions or ([older] if older else []):
        name, arguments = getattr(function, "name", None), getattr(function, "arguments", None)
        try:
            # A call without arguments is sent as empty text by some servers.
            values = json.loads(arguments or "{}") if isinstance(arguments, str | None) else arguments
            values = json.loads(_whole_characters(json.dumps(values, ensure_ascii=False, allow_nan=False)))
        except (ValueError, TypeError, RecursionError):
            return None
        if not isinstance(name, str) or not name or not isinstance(values, dict):
            return None
        calls.append({"name": name, "arguments": values})
    return calls


def reply_completion(reply: Any) -> Completion:
    """The completion of a reply without fault; reasoning that the server parsed out goes back into its think block.
    Tool calls that it parsed out are the completion's, and where one cannot be read that is the completion's problem.
    """
    choice = reply.choices[0]
    text, reasoning = message_text(choice.message.content), message_reasoning(choice.message).strip()
    text = in_common_tags(text)
    if reasoning and END_OF_THINKING not in text:
        text = f"{THINKING}\n{reasoning}\n{END_OF_THINKING}\n\n{text.lstrip()}"
    elif END_OF_THINKING in text and THINKING not in text:
        text = THINKING + text  # the server's template opened the block in the prompt
    calls = message_calls(choice.message)
    text = _whole_characters(text)
    reason = str(getattr(choice, "finish_reason", None) or "").lower()
    ended = reason in ENDED_BY_ITSELF or (bool(calls) and reason in CALLED)
    altered = UNREAD_CALL if calls is None else None if calls and reason in CALLED else ALTERED_BY_SERVER.get(reason)
    altered = altered or (None if reason else UNTOLD_END)
    if altered is None and not text and getattr(choice.message, "refusal", None):
        altered = REFUSAL
    return Completion(text, reply_tokens(reply, "completion_tokens"), ended, altered, tuple(calls or ()))


def _whole_characters(text: str) -> str:
    """A text without halves of characters (lone surrogates), which can be written to no file."""
    return text.encode("utf-8", "replace").decode()


def server_build(reply: Any) -> str | None:
    """What the server says of itself, `MODEL@FINGERPRINT`, for the provenance; None where it says neither."""
    parts = [getattr(reply, name, None) for name in ("model", "system_fingerprint")]
    return "@".join(part for part in parts if isinstance(part, str) and part) or None


def openai_turn(message: dict[str, Any]) -> dict[str, Any]:
    """A turn in OpenAI's schema, which has the arguments of calls as JSON text."""
    if not message.get("tool_calls"):
        return message
    calls = [
        {**c, "function": {**c["function"], "arguments": json.dumps(c["function"]["arguments"], ensure_ascii=False)}}
        for c in message["tool_calls"]
    ]
    return {**message, "tool_calls": calls}
