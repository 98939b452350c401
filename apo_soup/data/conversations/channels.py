"""Assistant turns in channels, as gpt-oss's Harmony writes them, as one turn of reasoning, words and calls for several.

`analysis` is the reasoning of the answer or call behind it; `commentary` with a recipient is a call, without one it is
what the assistant says before its calls; `final` is the answer.
"""

from dataclasses import dataclass, field

from apo_soup.data.conversations.turn_fields import LOSS_FLAGS, REASONING
from apo_soup.data.sources.rows import Fields, RowError, described

Placed = tuple[str, Fields]
CHANNELS = ("analysis", "commentary", "final")
# Recipients that are nobody: ChatGPT's own files write `all`, a tool's answer goes to the assistant.
NOBODY = (None, "", "all", "assistant")
FUNCTIONS = "functions."


@dataclass
class _Draft:
    """One assistant turn while its channels are read."""

    place: str
    beside: Fields
    thoughts: list[str] = field(default_factory=list)
    words: str | None = None
    calls: list[Fields] = field(default_factory=list)

    @property
    def spoken(self) -> bool:
        """Whether it has more than reasoning, so that further reasoning belongs to another turn."""
        return self.words is not None or bool(self.calls)

    def turn(self) -> Placed:
        """The turn; raises RowError where nothing follows its reasoning, or the reasoning is there twice."""
        if not self.spoken and not self.beside.get("tool_calls"):
            raise RowError(f"{self.place}.channel: expected an answer or a call behind analysis, got none; remove it")
        turn = {**self.beside, "role": "assistant", "content": self.words or ""}
        if self.thoughts:
            if any(turn.get(name) for name in REASONING):
                raise RowError(f"{self.place}: expected reasoning in a channel or in a field, got both; remove one")
            turn["reasoning_content"] = "\n\n".join(self.thoughts)
        if self.calls:
            if turn.get("tool_calls"):
                raise RowError(f"{self.place}: expected a call in a recipient or in tool_calls, got both; remove one")
            turn["tool_calls"] = self.calls
        return self.place, turn


def in_channels(turns: list[Placed]) -> bool:
    """Whether any turn is in a channel or has a recipient."""
    return any("channel" in turn or "recipient" in turn for _, turn in turns)


def folded_channels(turns: list[Placed]) -> list[Placed]:
    """The turns with every run of the assistant's channels as one turn an answer or call.

    Raises:
        RowError: a channel nobody knows, reasoning that nothing follows, or flags that differ within one turn.
    """
    folded: list[Placed] = []
    draft: _Draft | None = None
    for place, turn in turns:
        rest = {k: v for k, v in turn.items() if k not in ("channel", "recipient", "content_type")}
        if turn.get("role") != "assistant":
            if draft:
                folded.append(draft.turn())
            draft = None
            folded.append((place, _without_namespace(rest)))
            continue
        kind = _kind(turn, place)
        if draft and draft.spoken and kind != "call":
            folded.append(draft.turn())
            draft = None
        draft = _extended(draft, kind, turn, rest, place)
        if kind == "answer":
            folded.append(draft.turn())
            draft = None
    return [*folded, draft.turn()] if draft else folded


def _kind(turn: Fields, place: str) -> str:
    """What a turn of the assistant is to the turn it is a part of: `thought`, `words`, `call` or `answer`."""
    channel = turn.get("channel")
    if channel is not None and channel not in CHANNELS:
        expected = ", ".join(CHANNELS)
        raise RowError(f"{place}.channel: expected one of {expected}, got {described(channel)}; correct it")
    if turn.get("recipient") not in NOBODY:
        return "call"
    return {"analysis": "thought", "commentary": "words"}.get(channel or "final", "answer")


def _extended(draft: _Draft | None, kind: str, turn: Fields, rest: Fields, place: str) -> _Draft:
    """`draft`, or a new one, with one more turn in it."""
    content = rest.pop("content", None)
    if not isinstance(content, str) and not (content is None and kind == "answer" and rest.get("tool_calls")):
        raise RowError(f"{place}.content: expected text, got {described(content)}; correct the turn")
    if draft is None:
        draft = _Draft(place, rest)
    elif any(draft.beside.get(flag) != rest.get(flag) for flag in LOSS_FLAGS):
        raise RowError(f"{place}: expected the flags of the turn it belongs to, got others; give both the same")
    else:
        draft.beside = {**draft.beside, **rest}
    if kind == "thought":
        draft.thoughts.append(content or "")
    elif kind == "call":
        name = turn["recipient"]
        if not isinstance(name, str):
            raise RowError(f"{place}.recipient: expected the name of a tool, got {described(name)}; correct it")
        function = {"name": name.removeprefix(FUNCTIONS), "arguments": content}
        draft.calls.append({"type": "function", "function": function})
    else:
        draft.words = content
    return draft


def _without_namespace(turn: Fields) -> Fields:
    """A tool's turn under the name that its call has."""
    name = turn.get("name")
    return {**turn, "name": name.removeprefix(FUNCTIONS)} if isinstance(name, str) else turn
