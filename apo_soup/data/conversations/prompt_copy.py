"""The `prompt` beside two whole conversations: a copy of what they bring along, in a form that data sets use."""

import re
from typing import Any

from apo_soup.data.conversations.blank_text import is_blank
from apo_soup.data.conversations.dialects import holds_turns, turn_list, written_value
from apo_soup.data.conversations.messages import checked_messages
from apo_soup.data.sources.rows import Fields, RowError, described

# A text of so many characters in another is no chance.
LONG = 16
# What generated rows hold in place of an empty input.
NO_INPUT = ("<noinput>", "<no input>", "no input")
# What stands before and behind a turn's words in a rendered prompt: its start and end, a line's, or a template's mark.
BEFORE, BEHIND = r"(?:^|[\n:>\]|])\s*", r"\s*(?:$|[\n<\[|#]|[A-Z][A-Za-z]*:)"


def check_prompt_copy(given: Any, prompt: list[Fields]) -> None:
    """Compare a row's `prompt` with the turns that both of its conversations share.

    A copy has the first or the last of the user's turns, or all of them, joined or rendered as one text.

    Raises:
        RowError: it is none, and so something else was to be asked.
    """
    if isinstance(given, str) and given[:1] == "[" and holds_turns(written_value(given)):
        given = written_value(given)
    if not given or not isinstance(given, str | list | dict):
        return
    shared = _said(prompt, "user")
    if isinstance(given, str):
        if not shared or given.strip() in (shared[0], shared[-1]) or _joins(given, shared):
            return
        raise _other("text", given, shared[-1])
    turns = checked_messages(given, "prompt")
    for role in ("system", "user"):
        told, known = _said(turns, role), _said(prompt, role)
        if told and known and told[-1] != known[-1] and told != known[:1]:
            raise _other(f"{role} turn", told[-1], known[-1])


def is_copy(value: Any, messages: list[Fields]) -> bool:
    """Whether a column repeats what the turns of its row say: a text one that asks, or all that the user says, joined
    or rendered; a list turns of theirs.
    """
    if isinstance(value, str):
        said = value.strip()
        # An Alpaca prompt has a heading between the paragraphs of its instruction and its input.
        asked = [part.strip() for text in _said(messages, "user") for part in text.split("\n\n")]
        return is_asked(said, messages) or (bool(asked) and all(part in said for part in asked))
    contents, turns = [turn["content"].strip() for turn in messages], turn_list(value)
    if not isinstance(turns, list):
        return False
    told = [turn.get("content", turn.get("value")) for turn in turns if isinstance(turn, dict)]
    return all(any(said.strip() in content for content in contents) for said in told if isinstance(said, str))


def is_asked(text: str, messages: list[Fields]) -> bool:
    """Whether a text stands in a turn that is not the assistant's; a short one, which may be a word of any sentence, in
    a line or between marks of its own.

    >>> turns = [{"role": "user", "content": "Translate: chat"}, {"role": "assistant", "content": "cat"}]
    >>> [is_asked(text, turns) for text in ("chat", "Translate", "cat")]
    [True, False, False]
    """
    text = text.strip()
    own = re.compile(BEFORE + re.escape(text) + BEHIND)
    asked = [turn["content"] for turn in messages if turn["role"] != "assistant"]
    return any((len(text) >= LONG and text in content) or own.search(content) for content in asked)


def check_one_question(names: tuple[str, ...], fields: Fields, prompt: list[Fields]) -> None:
    """Hold columns that may ask, beside the one that was read, to the turns of a prompt.

    Raises:
        RowError: a text says what none of them does, and would be left out.
    """
    for name in names:
        value = fields.get(name)
        if isinstance(value, str) and not says_no_input(value) and not is_copy(value, prompt):
            raise other_question("prompt", name, value)


def says_no_input(text: str) -> bool:
    """Whether a text stands in place of an empty input."""
    return is_blank(text) or text.strip().lower() in NO_INPUT


def other_question(asks: str, name: str, value: Any) -> RowError:
    """The error of a row whose column `name` asks something that `asks` does not."""
    return RowError(
        f"fields {asks}, {name}: expected one question, got {described(value)} as {name}, which {asks} does not say; "
        "write all that is asked into one of them and remove the other"
    )


def _said(turns: list[Fields], role: str) -> list[str]:
    return [turn["content"].strip() for turn in turns if turn["role"] == role]


def _joins(text: str, turns: list[str]) -> bool:
    """Whether a text is these turns behind one another, or a rendering in which they stand in order."""
    if text.split() == " ".join(turns).split():
        return True
    position = 0
    for turn in turns:
        found = re.compile(BEFORE + re.escape(turn) + BEHIND).search(text, position)
        if found is None:
            return False
        position = found.end() - 1
    return True


def _other(what: str, given: str, known: str) -> RowError:
    return RowError(
        f"field prompt: expected the {what} that chosen and rejected have, {described(known)}, got {described(given)}; "
        "remove the prompt, or mend the conversations"
    )
