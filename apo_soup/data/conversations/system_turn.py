"""A system turn that is left out or becomes words of the user's, for templates that have no place for one."""

from dataclasses import replace
from typing import Any, TypeVar, cast

from apo_soup.data.conversations.conversation import PlainText, PreferencePair, RowItem
from apo_soup.data.sources.rows import Fields, RowError

SystemItemT = TypeVar("SystemItemT", bound=RowItem)
OVERRIDE = "/system_override"
MODE_FLAGS = ("/no_think", "/think", OVERRIDE)
LEFT_OUT = "system_turn: drop left out the system text"
IN_USER_TURN = "system_turn: into_user wrote the system text into the first user turn"


def without_system_turn(item: SystemItemT) -> SystemItemT:
    """A row without the system turn that it begins with; the mode that this states stays, and so does the word that
    asks for no text of the template's beside it.

    Raises:
        RowError: there is no other turn before an answer.
    """
    system = _system_text(item)
    return item if system is None else cast(SystemItemT, _with_turns(item, _turns(item)[1:], system))


def with_system_in_user_turn(item: SystemItemT) -> SystemItemT:
    """A row whose first user turn begins with the text of its system turn, a blank line between them.

    Raises:
        RowError: what comes behind the system turn is not the user's: an answer there would stand before the text that
            it is by.
    """
    system = _system_text(item)
    if system is None:
        return item
    turns = _turns(item)[1:]
    if not any(turn["role"] == "user" for turn in turns):
        raise RowError(
            "system_turn: expected a user turn that the system text can be written into, got none; leave the row out"
        )
    if turns[0]["role"] != "user":
        way = "write turn_order: drop_leading too" if turns[0]["role"] == "assistant" else "correct the row"
        raise RowError(
            "system_turn: expected the user's turn behind the system text, which can be written into it, got a turn of "
            f"the {turns[0]['role']}; {way}"
        )
    said = (without_flags(system) if _states_mode(item) or OVERRIDE in system.split() else system).strip()
    content = "\n\n".join(text for text in (said, turns[0]["content"]) if text)
    turns[0] = {**turns[0], "content": content}
    return cast(SystemItemT, _with_turns(item, turns, system))


def without_flags(text: str) -> str:
    """A text without the words that only choose a mode, as our template leaves them out."""
    if "/" not in text or not any(flag in text for flag in MODE_FLAGS):
        return text
    lines = (" ".join(word for word in line.split(" ") if word not in MODE_FLAGS) for line in text.split("\n"))
    return "\n".join(lines)


def _turns(item: Any) -> list[Fields]:
    turns: list[Fields] = item.prompt if isinstance(item, PreferencePair) else item.messages
    return turns


def _system_text(item: RowItem) -> str | None:
    """The text of the system turn that a row begins with, or None."""
    if isinstance(item, PlainText):
        return None
    first = _turns(item)[0]
    return str(first["content"]) if first["role"] == "system" else None


def _states_mode(item: RowItem) -> bool:
    return not isinstance(item, PlainText) and item.stated_mode is not None


def _with_turns(item: Any, turns: list[Fields], system: str) -> Any:
    """A row with other turns, which the system text is no longer one of; what words of it choose are arguments now."""
    if not turns:
        raise RowError("system_turn: expected a turn beside the system turn, got none; leave the row out")
    name = "prompt" if isinstance(item, PreferencePair) else "messages"
    changed = replace(item, **{name: turns})
    chosen = {"system_override": True} if OVERRIDE in system.split() else {}
    if changed.stated_mode != item.stated_mode:
        chosen["enable_thinking"] = item.stated_mode
    return replace(changed, kwargs={**changed.kwargs, **chosen}) if chosen else changed
