"""Results of a turn's calls: each answers one of them, and they stand in the order of the calls."""

from typing import Any

from apo_soup.data.conversations.call_fields import OTHER_ID
from apo_soup.data.sources.rows import Fields, RowError, described

CORRECT = "correct the result or the call"
# What some data sets write as the name of whoever gives a result: that of its role, not of a tool.
NO_NAME = ("tool", "function", "ipython", "tool_response", "tool_result", "observation", "environment")


def in_call_order(messages: list[Fields], name: str) -> list[Fields]:
    """Turns whose results stand in the order of the calls that they answer, and name them by one id. Calls that run
    beside each other end in any order, and a template that writes no ids tells their results apart by order alone.

    Args:
        name: the field that holds the turns.

    Raises:
        RowError: a result answers none of the calls of the turn that it follows, or one that has its result already.
    """
    ordered = messages
    for number, message in enumerate(messages):
        calls = message.get("tool_calls")
        if not calls:
            continue
        stop = number + 1
        while stop < len(messages) and messages[stop]["role"] == "tool":
            stop += 1
        results = [_with_calls_id(result, calls) for result in messages[number + 1 : stop]]
        answered = _answered(calls, results, [f"field {name}[{n}]" for n in range(number + 1, stop)])
        asking = {**message, "tool_calls": [{k: v for k, v in call.items() if k != OTHER_ID} for call in calls]}
        in_order = [results[n] for n in sorted(range(len(results)), key=answered.__getitem__)]
        ordered = [*ordered[:number], asking, *in_order, *ordered[stop:]]
    return ordered


def _with_calls_id(result: Fields, calls: list[Any]) -> Fields:
    """A result that names its call by the call's own id, under the name that templates read: some name it by another
    id of the call's, or under another name.
    """
    ids = {_word(call.get(key)): call.get("id") for call in calls for key in (OTHER_ID, "id") if _word(call.get(key))}
    if not _word(result.get("tool_call_id")):
        other = next((key for key in ("call_id", "id") if _word(result.get(key)) in ids), None)
        other = other or ("call_id" if _word(result.get("call_id")) else None)
        if other is None:
            return result
        result = {k: v for k, v in result.items() if k not in (other, "tool_call_id")} | {"tool_call_id": result[other]}
    told = result["tool_call_id"]
    return {**result, "tool_call_id": ids[_word(told)]} if ids.get(_word(told), told) != told else result


def _answered(calls: list[Any], results: list[Fields], places: list[str]) -> list[int]:
    """The number of the call that each result answers: known by its id, or else by its name, or else by its place."""
    ids = [_word(call.get("id")) for call in calls]
    names = [_word(call["function"]["name"]) for call in calls]
    left = [*range(len(calls))]
    answered: dict[int, int] = {}

    def take(number: int, known: list[str], told: str) -> bool:
        call = next((call for call in left if known[call] == told), None)
        if call is not None:
            left.remove(call)
            answered[number] = call
        return call is not None

    for number, result in enumerate(results):
        told = _word(result.get("tool_call_id"))
        if told and not take(number, ids, told) and (told in ids or all(ids)):
            raise _answers_none(f"{places[number]}.tool_call_id", ids, told)
    for number, result in enumerate(results):
        told = _tool_name(result, names)
        if number in answered:
            call = answered[number]
            if told and told not in (names[call], ids[call]):
                raise RowError(
                    f"{places[number]}.name: expected {names[call]}, whose call has this id, got {told}; {CORRECT}"
                )
        elif told and not take(number, names, told):
            raise _answers_none(f"{places[number]}.name", names, told)
    for number in range(len(results)):
        if number not in answered:
            if not left:
                raise RowError(
                    f"{places[number]}: expected one result a call, got {len(results)} behind a turn of {len(calls)}; "
                    f"{CORRECT}"
                )
            answered[number] = left.pop(0)
    return [answered[number] for number in range(len(results))]


def _answers_none(place: str, known: list[str], told: str) -> RowError:
    """The error of a result for `told`, where the calls before it are `known`."""
    if told in known:
        return RowError(f"{place}: expected one result a call, got another one for {told}; {CORRECT}")
    expected = "one of a call of the turn that it follows, " + " or ".join(dict.fromkeys(known))
    return RowError(f"{place}: expected {expected}, got {described(told)}; {CORRECT}")


def _tool_name(result: Fields, names: list[str]) -> str:
    """The name of the tool that a result is of; empty where it names none."""
    told = _word(result.get("name"))
    return "" if told in NO_NAME and told not in names else told


def _word(told: Any) -> str:
    """An id or a name as text, without the namespace of functions; empty where there is none."""
    return "" if told is None else str(told).strip().removeprefix("functions.")
