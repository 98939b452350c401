"""Chat completions as OpenAI-compatible servers send them, and turns as they take them.

A reply is `Any` here: the client does not check what a server sends, and servers differ.
"""

import json
from typing import Any

from apo_soup.models.completion import Completion

# Words by which servers say that an answer ended by itself.
ENDED_BY_ITSELF = ("stop", "eos", "eos_token", "end_turn", "stop_sequence", "end")
# What a server may have done to an answer, by its finish_reason.
ALTERED_BY_SERVER = {
    "tool_calls": "tool calls taken out of the answer by the server",
    "function_call": "a function call taken out of the answer by the server",
    "content_filter": "the server's content filter",
}


def reply_fault(reply: Any) -> str | None:
    """Why a reply is no chat completion with text and token counts, such as a gateway's page or half a body; or None
    where it is one.
    """
    try:
        message, usage = reply.choices[0].message, reply.usage
        texts = (message_text(message.content), message_reasoning(message))
        counts = (usage.completion_tokens, usage.prompt_tokens)
    except (AttributeError, TypeError, IndexError, KeyError):
        complete = False
    else:
        complete = all(isinstance(text, str) for text in texts) and all(isinstance(n, int) for n in counts)
    return None if complete else f"an answer without choices, text or usage: {str(reply)[:80]!r}"


def message_text(content: Any) -> Any:
    """A message's content as text; some servers send it in parts."""
    if isinstance(content, list):
        return "".join(part["text"] for part in content if part.get("type") == "text")
    return "" if content is None else content


def message_reasoning(message: Any) -> Any:
    """The reasoning that a server parsed out of the content, by either of its usual names; "" where there is none."""
    extra = message.model_extra or {}
    return extra.get("reasoning_content") or extra.get("reasoning") or ""


def reply_completion(reply: Any) -> Completion:
    """The completion of a reply without fault; reasoning that the server parsed out goes back into its think block."""
    choice = reply.choices[0]
    text, reasoning = message_text(choice.message.content), message_reasoning(choice.message).strip()
    if reasoning and "</think>" not in text:
        text = f"<think>\n{reasoning}\n</think>\n\n{text.lstrip()}"
    elif "</think>" in text and "<think>" not in text:
        text = "<think>" + text  # the server's template opened the block in the prompt
    # Half of a character (a lone surrogate) can be written to no file.
    text = text.encode("utf-8", "replace").decode()
    reason = choice.finish_reason
    return Completion(text, reply.usage.completion_tokens, reason in ENDED_BY_ITSELF, ALTERED_BY_SERVER.get(reason))


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
