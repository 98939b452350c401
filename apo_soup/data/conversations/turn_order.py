"""Turns in an order that chat templates differ on, and what is done with them.

A greeting by the assistant, two turns of one role in a row, a system turn in the middle: the template decides whether
it takes them. What it writes is tried with a probe in place of each turn, because a template may drop or join turns
in silence. `turn_order` of a source changes such rows before, or refuses them.
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from apo_soup.data.conversations.turn_fields import LOSS_FLAGS, REASONING
from apo_soup.data.cures import INTO_USER, MEND_OR_LEAVE_OUT, OTHER_TEMPLATE
from apo_soup.data.sources.rows import Fields, RowError
from apo_soup.models.think_tags import THINKING

RenderMessages = Callable[[list[Fields], dict[str, Any]], tuple[str, Any]]
# Behind which turns a turn stands in the order that every template takes; None is the beginning.
USUAL = {
    "system": (None,),
    "user": ("system", "assistant", None),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool"),
}


def unusual_turn(messages: list[Fields], name: str) -> int | None:
    """The number of the first turn that does not stand where turns usually do, or None.

    Raises:
        RowError: a tool answers nobody, which no template can mean.
    """
    before = None
    first = None
    for number, message in enumerate(messages):
        role = message["role"]
        if before not in USUAL[role]:
            if role == "tool":
                got = f"one behind a {before} turn" if before else "one that comes first"
                raise RowError(
                    f"field {name}[{number}].role: expected tool behind assistant or tool, got {got}; mend the row or "
                    "leave it out"
                )
            first = number if first is None else first
        before = role
    return first


def joined_turns(messages: list[Fields], name: str) -> list[Fields]:
    """Turns of one role in a row as one, a blank line between their texts; tools' answers stay apart.

    Raises:
        RowError: a turn has calls, reasoning, flags or a name that the turn before it has not.
    """
    joined: list[Fields] = []
    for number, message in enumerate(messages):
        before = joined[-1] if joined else {}
        role = message["role"]
        if role != before.get("role") or role == "tool":
            joined.append(message)
            continue
        apart = _what_parts(before, message)
        if apart:
            raise RowError(
                f"field {name}[{number}]: expected a turn that can be joined to the {role} turn before it, got one "
                f"with {apart}; {MEND_OR_LEAVE_OUT}"
            )
        texts = [turn["content"] for turn in (before, message) if turn["content"].strip()]
        joined[-1] = {**message, **before, "content": "\n\n".join(texts)}
    return joined


def _what_parts(before: Fields, message: Fields) -> str | None:
    """What two turns of one role say beside their texts, so that they cannot be one; None where they can."""
    if before.get("tool_calls") or message.get("tool_calls"):
        return "calls in one of them"
    if any(before.get(flag) != message.get(flag) for flag in LOSS_FLAGS):
        return "other flags"
    if before.get("name") != message.get("name"):
        return "another name"
    thinks = message["role"] == "assistant" and message["content"].lstrip().startswith(THINKING)
    if thinks or any(message.get(field) for field in REASONING):
        return "reasoning of its own"
    return None


def without_leading_turns(messages: list[Fields], name: str) -> list[Fields]:
    """Turns without those of the assistant before the first user turn; a list without a user turn stays as it is."""
    first = next((n for n, m in enumerate(messages) if m["role"] == "user"), 0)
    return [*(m for m in messages[:first] if m["role"] != "assistant"), *messages[first:]]


def usual_turns(messages: list[Fields], name: str) -> list[Fields]:
    """Turns that stand where they usually do; an answer may begin with the assistant.

    Raises:
        RowError: naming the first that does not.
    """
    answers = name not in ("messages", "prompt") and all(m["role"] != "user" for m in messages)
    before: list[Fields] = [{"role": "user"}] if answers else []
    number = unusual_turn([*before, *messages], name)
    if number is not None:
        raise _refused(messages, number - len(before))
    return messages


def order_remedy(messages: list[Fields], number: int | None = None, complaint: str = "") -> str:
    """What to write for turns in an unusual order: those at `number`, or the first that are.

    Args:
        complaint: what a template said of them.
    """
    roles = [message.get("role") for message in messages]
    behind = [None, *roles]
    if number is None:
        number = next((n for n, role in enumerate(roles) if behind[n] not in USUAL.get(str(role), behind)), None)
    if number is None:
        of_system = "role" in complaint.lower() and roles[:1] == ["system"] and "tool" not in roles
        return INTO_USER if of_system else OTHER_TEMPLATE
    role, before = roles[number], behind[number]
    if role == before:
        return "write turn_order: join for the source, or mend the row"
    if role == "assistant":
        return "write turn_order: drop_leading for the source, or mend the row"
    return MEND_OR_LEAVE_OUT


def check_order(
    messages: list[Fields], kwargs: dict[str, Any], render: RenderMessages, order: str | None = None
) -> None:
    """Hold a row of unusual order to what the source asks for, and to what the template writes of each turn.

    Raises:
        RowError: such rows are refused, or the template drops, moves or joins a turn.
    """
    number = unusual_turn(messages, "messages")
    if number is None:
        return
    if order == "refuse":
        raise _refused(messages, number)
    probes = [f"turn{n}probe" if m["content"].strip() else None for n, m in enumerate(messages)]
    probed = [{**m, "content": p} if p else m for m, p in zip(messages, probes, strict=True)]
    text, _ = render(probed, kwargs)
    # A system turn that comes first has no place of its own: some templates write it into a user turn.
    own = int([m["role"] == "system" for m in messages[:2]] == [True, False])
    places = [(n, text.find(p)) for n, p in enumerate(probes) if p]
    for n, place in places:
        if place < 0:
            told = f"expected every turn in what the chat template writes, got a text without {_told(messages, n)}"
            raise RowError(f"{told}; {order_remedy(messages)}")
    placed = [(n, place) for n, place in places if n >= own]
    for (earlier, start), (later, place) in pairwise(placed):
        if place < start:
            told = (
                f"expected the chat template to keep the order of turns, got {_told(messages, later)} in another place"
            )
            raise RowError(f"{told}; {order_remedy(messages)}")
        if not text[start + len(probes[earlier] or "") : place].strip():
            told = (
                f"expected the chat template to part all turns, got {_told(messages, later)} inside the one before it"
            )
            raise RowError(f"{told}; {order_remedy(messages, later)}")


def _refused(messages: list[Fields], number: int) -> RowError:
    return RowError(f"expected turns in the usual order, got {_told(messages, number)}; {MEND_OR_LEAVE_OUT}")


def _told(messages: list[Fields], number: int) -> str:
    behind = f"behind {messages[number - 1]['role']}" if number else "at the beginning"
    return f"turn {number} ({messages[number]['role']} {behind})"


def writes_names(render: RenderMessages) -> bool:
    """Whether a template writes the `name` of a user."""
    word = "nameprobe"
    messages = [{"role": "user", "content": "?", "name": word}, {"role": "assistant", "content": "!"}]
    try:
        return word in render(messages, {})[0]
    except RowError:
        return False
