"""In which form a chat template takes contents and calls.

Most take a content as text and a call's arguments as a mapping. Those of image models may want a list of parts; some
(DeepSeek's) put arguments into the text as they are and so want JSON text, or write the calls of a turn only where it
has no content at all. A template is tried on turns of ours, once.
"""

import hashlib
import json
import re
import string
from collections.abc import Callable
from dataclasses import dataclass, replace

from apo_soup.data.sources.rows import Fields, RowError

CALL_NAME, CALL_ARGUMENTS = "probe0f0call", {"probe0f0key": "probe0f0value"}
# Some templates (Mistral's) want an id of nine letters and digits.
CALL_ID, LONG_ID = "probe0f0c", "call_probe0f0call"
SHORT_IDS = "calls got ids of nine letters and digits, which the chat template asks for"
ID_LETTERS = string.ascii_letters + string.digits
SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")
USER: Fields = {"role": "user", "content": "?"}
TOOL: Fields = {"role": "tool", "content": "probe0f0result", "name": CALL_NAME, "tool_call_id": CALL_ID}


PROBE = "probe0f0answer"
ANSWER: Fields = {"role": "assistant", "content": PROBE}


@dataclass(frozen=True)
class CallForm:
    """`as_text`: arguments are JSON text; `no_content`: a turn of calls alone has None for its content; `short_ids`:
    ids of calls have nine letters and digits.
    """

    as_text: bool = False
    no_content: bool = False
    short_ids: bool = False

    def of(self, messages: list[Fields]) -> list[Fields]:
        """`messages` with their calls in this form; those given are left as they are."""
        if self.gives_ids(messages):
            messages = with_short_ids(messages)
        return [self._turn(m) if m.get("tool_calls") else m for m in messages]

    def gives_ids(self, messages: list[Fields]) -> bool:
        """Whether calls of these turns get other ids than they have."""
        calls = (call for m in messages for call in m.get("tool_calls") or ()) if self.short_ids else ()
        return any(not SHORT_ID.fullmatch(str(call.get("id"))) for call in calls)

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
                return replace(form, short_ids=not _takes(render, _with_ids(turns, LONG_ID)))
            break
    return CALL_FORMS[0]


def with_short_ids(messages: list[Fields]) -> list[Fields]:
    """`messages` whose calls have ids of nine letters and digits, and whose results, in the order of the calls, name
    them. Each is made of the id and the call that it stands for, so a row has the same ones at any time.
    """
    given: list[Fields] = []
    ids: list[str] = []
    for number, message in enumerate(messages):
        calls = message.get("tool_calls")
        if calls:
            ids = [_short_id(call, f"{number} {place}") for place, call in enumerate(calls)]
            named = [{**call, "id": known} for call, known in zip(calls, ids, strict=True)]
            message = {**message, "tool_calls": named}
        elif message["role"] == "tool" and ids:
            message = {**message, "tool_call_id": ids.pop(0)}
        given.append(message)
    return given


def _short_id(call: Fields, place: str) -> str:
    if SHORT_ID.fullmatch(str(call.get("id"))):
        return str(call["id"])
    said = json.dumps([place, call.get("id"), call["function"]], ensure_ascii=False, sort_keys=True)
    number = int.from_bytes(hashlib.sha256(said.encode("utf-8", "surrogatepass")).digest()[:8], "big")
    letters = []
    for _ in range(9):
        number, letter = divmod(number, len(ID_LETTERS))
        letters.append(ID_LETTERS[letter])
    return "".join(letters)


def _takes(render: Callable[[list[Fields]], str], turns: list[Fields]) -> bool:
    try:
        render(turns)
    except RowError:
        return False
    return True


def _with_ids(turns: list[Fields], known: str) -> list[Fields]:
    """Our turns with another id of their call."""
    return [
        {**turn, "tool_calls": [{**call, "id": known} for call in turn["tool_calls"]]}
        if turn.get("tool_calls")
        else {**turn, "tool_call_id": known}
        if "tool_call_id" in turn
        else turn
        for turn in turns
    ]


def _with_text(call: Fields) -> Fields:
    function = call["function"]
    return {**call, "function": {**function, "arguments": json.dumps(function["arguments"], ensure_ascii=False)}}
