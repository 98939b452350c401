"""Results of several calls of one turn, in the order of the calls."""

from typing import Any

from apo_soup.data.sources.rows import Fields


def in_call_order(messages: list[Fields]) -> list[Fields]:
    """Turns whose results stand in the order of the calls that they answer, known by ids, or else by names. Calls that
    run beside each other end in any order, and a template that writes no ids tells their results apart by order alone.
    """
    ordered = messages
    for number, message in enumerate(messages):
        calls = message.get("tool_calls")
        if not calls or len(calls) < 2:
            continue
        stop = number + 1
        while stop < len(messages) and messages[stop]["role"] == "tool":
            stop += 1
        results = messages[number + 1 : stop]
        wanted = _order(calls, results)
        if wanted != sorted(wanted):
            ordered = [*ordered[: number + 1], *(results[n] for n in wanted), *ordered[stop:]]
    return ordered


def _order(calls: list[Any], results: list[Fields]) -> list[int]:
    """The numbers of the results, in the order of their calls; as they stand where it is not sure which is whose."""
    for asked, answered in (
        ([call.get("id") for call in calls], [result.get("tool_call_id") for result in results]),
        ([call["function"]["name"] for call in calls], [result.get("name") for result in results]),
    ):
        known = all(isinstance(name, str) for name in (*asked, *answered))
        if known and len({*asked}) == len(asked) and len({*answered}) == len(answered) and {*answered} <= {*asked}:
            return sorted(range(len(results)), key=lambda number: asked.index(answered[number]))
    return [*range(len(results))]
