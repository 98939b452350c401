"""The reasoning of an assistant's turn, which may stand in several fields and in its words, as one."""

from apo_soup.data.conversations.turn_fields import REASONING
from apo_soup.data.sources.rows import Fields, RowError, described

THINKING = "<think>"
END_OF_THINKING = "</think>"


def one_reasoning(message: Fields, content: str, place: str) -> Fields:
    """An assistant's turn with its reasoning once: in its content, or under the names that templates read.

    Raises:
        RowError: the reasoning is no text, there are two that differ, or one holds marks of its own.
    """
    given = {name: message[name] for name in REASONING if message.get(name) is not None}
    if not given:
        return message
    for name, value in given.items():
        if not isinstance(value, str):
            raise RowError(f"{place}.{name}: expected text, got {described(value)}; correct it")
        given[name] = _bare(value, f"{place}.{name}")
    told = {name: value for name, value in given.items() if value.strip()}
    if len({value.strip() for value in told.values()}) > 1:
        raise RowError(f"{place}: expected one reasoning, got {' and '.join(told)} that differ; remove one")
    reasoning = next(iter((told or given).values()))
    if told and content.lstrip().startswith(THINKING):
        block = content.lstrip().removeprefix(THINKING).partition(END_OF_THINKING)[0]
        if block.strip() != reasoning.strip():
            raise RowError(
                f"{place}: expected reasoning in the content or in a field of its own, got it in both; remove one"
            )
        return {name: value for name, value in message.items() if name not in REASONING}
    return {"thinking": reasoning, **message, **dict.fromkeys(given, reasoning), "reasoning_content": reasoning}


def _bare(reasoning: str, place: str) -> str:
    """Reasoning without the think marks around the whole of it."""
    if THINKING not in reasoning and END_OF_THINKING not in reasoning:
        return reasoning
    whole = reasoning.strip()
    inside = whole.removeprefix(THINKING).removesuffix(END_OF_THINKING)
    marked = whole.startswith(THINKING) and whole.endswith(END_OF_THINKING)
    if not marked or THINKING in inside or END_OF_THINKING in inside:
        raise RowError(
            f"{place}: expected reasoning without {THINKING} and {END_OF_THINKING}, which the template writes, got "
            f"{described(reasoning)}; remove them"
        )
    return inside.strip()
