"""In which form a chat template takes contents and calls.

Most take a content as text and a call's arguments as a mapping. Those of image models may want a list of parts; some
(DeepSeek's) put arguments into the text as they are and so want JSON text. A template is tried on turns of ours, once.
"""

import json
from collections.abc import Callable

from apo_soup.data.rows import Fields, RowError

CALL_NAME, CALL_ARGUMENTS = "probe0f0call", {"probe0f0key": "probe0f0value"}
# Some templates want an id of nine letters and digits.
CALL_ID = "probe0f0c"
USER: Fields = {"role": "user", "content": "?"}
TOOL: Fields = {"role": "tool", "content": "probe0f0result", "name": CALL_NAME, "tool_call_id": CALL_ID}


PROBE = "probe0f0answer"
ANSWER: Fields = {"role": "assistant", "content": PROBE}


def wants_parts(render: Callable[[list[Fields]], str]) -> bool:
    """Whether `render` writes an answer only where its content is a list of parts."""
    for turns, parts in (([USER, ANSWER], False), (in_parts([USER, ANSWER]), True)):
        try:
            if PROBE in render(turns):
                return parts
        except RowError:
            continue
    return False


def in_parts(messages: list[Fields]) -> list[Fields]:
    """`messages` with every text as a list of one part."""
    return [{**m, "content": [{"type": "text", "text": m["content"]}]} for m in messages]


def call_turn() -> Fields:
    """An assistant turn of our call alone."""
    function = {"name": CALL_NAME, "arguments": CALL_ARGUMENTS}
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": CALL_ID, "type": "function", "function": function}],
    }


def wants_argument_text(render: Callable[[list[Fields]], str]) -> bool:
    """Whether `render` writes our call, name and arguments, only where the arguments are JSON text.

    A mapping that stands in the text as Python writes it is no call that a model could be asked for.
    """
    for as_text in (False, True):
        turn = call_turn()
        for turns in ([USER, turn, TOOL], [USER, turn]):
            try:
                text = render(with_argument_text(turns) if as_text else turns)
            except RowError:
                continue
            parts = (CALL_NAME, *CALL_ARGUMENTS, *CALL_ARGUMENTS.values())
            if all(part in text for part in parts) and repr(CALL_ARGUMENTS) not in text:
                return as_text
            break
    return False


def with_argument_text(messages: list[Fields]) -> list[Fields]:
    """`messages` with the arguments of their calls as JSON text; those given are left as they are."""
    return [{**m, "tool_calls": list(map(_with_text, m["tool_calls"]))} if m.get("tool_calls") else m for m in messages]


def _with_text(call: Fields) -> Fields:
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}}
