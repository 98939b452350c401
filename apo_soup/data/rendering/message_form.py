"""In which form a chat template takes contents and calls.

Most take a content as text and a call's arguments as a mapping. Those of image models may want a list of parts; some
(DeepSeek's) put arguments into the text as they are and so want JSON text, or write the calls of a turn only where it
has no content at all. A template is tried on turns of ours, once.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

from apo_soup.data.sources.rows import Fields, RowError

CALL_NAME, CALL_ARGUMENTS = "probe0f0call", {"probe0f0key": "probe0f0value"}
# Some templates want an id of nine letters and digits.
CALL_ID = "probe0f0c"
USER: Fields = {"role": "user", "content": "?"}
TOOL: Fields = {"role": "tool", "content": "probe0f0result", "name": CALL_NAME, "tool_call_id": CALL_ID}


PROBE = "probe0f0answer"
ANSWER: Fields = {"role": "assistant", "content": PROBE}


@dataclass(frozen=True)
class CallForm:
    """`as_text`: arguments are JSON text; `no_content`: a turn of calls alone has None for its content."""

    as_text: bool = False
    no_content: bool = False

    def of(self, messages: list[Fields]) -> list[Fields]:
        """`messages` with their calls in this form; those given are left as they are."""
        return [self._turn(m) if m.get("tool_calls") else m for m in messages]

    def _turn(self, message: Fields) -> Fields:
        turn = dict(message)
        if self.no_content and not turn["content"]:
            turn["content"] = None
        if self.as_text:
            turn["tool_calls"] = [_with_text(call) for call in turn["tool_calls"]]
        return turn


CALL_FORMS = (CallForm(), CallForm(as_text=True), CallForm(no_content=True), CallForm(as_text=True, no_content=True))


def wants_parts(render: Callable[[list[Fields]], str]) -> bool:
    """Whether `render` writes an answer only where its content is a list of parts. One that writes the list itself, as
    Python or as JSON, does not write the answer.
    """
    for turns, parts in (([USER, ANSWER], False), (in_parts([USER, ANSWER]), True)):
        content = turns[-1]["content"]
        lists = (repr(content), json.dumps(content)) if parts else ()
        try:
            text = render(turns)
            if PROBE in text and not any(written in text for written in lists):
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


def call_form_of(render: Callable[[list[Fields]], str], end: str) -> CallForm:
    """The first form in which `render` writes our call, name and arguments; the usual one where it writes it in none.

    A mapping that stands in the text as Python writes it is no call that a model could be asked for. A turn without
    content must end with the end of turn.
    """
    for form in CALL_FORMS:
        turn = form.of([call_turn()])[0]
        for turns in ([USER, turn, TOOL], [USER, turn]):
            try:
                text = render(turns)
                ended = not form.no_content or render([USER, turn]).rstrip().endswith(end)
            except RowError:
                continue
            parts = (CALL_NAME, *CALL_ARGUMENTS, *CALL_ARGUMENTS.values())
            if ended and all(part in text for part in parts) and repr(CALL_ARGUMENTS) not in text:
                return form
            break
    return CALL_FORMS[0]


def _with_text(call: Fields) -> Fields:
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}}
