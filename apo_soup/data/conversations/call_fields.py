"""The name and the arguments of a call, under whichever names data sets write them."""

from typing import Any

from apo_soup.data.conversations.turn_fields import EMPTY, HARMLESS
from apo_soup.data.sources.json_text import json_value
from apo_soup.data.sources.rows import Fields, RowError, described

# OpenAI's name of the arguments, and those of Llama, LangChain, Anthropic and others.
ARGUMENTS = ("arguments", "parameters", "args", "input", "kwargs")
# A second id of a call, until its result is found.
OTHER_ID = "item_id"
# What a call holds beside its name and arguments without saying anything that a model is to write.
SAYS_NOTHING = frozenset(
    (
        "type",
        "function",
        "name",
        "call_id",
        "tool_call_id",
        OTHER_ID,
        "status",
        "signature",
        "caller",
        "extra_content",
        *HARMLESS,
    )
)


def read_call(call: Any, place: str) -> Fields:
    """A call as `id` where it has one, `type` and a `function` of `name` and `arguments`, which are as they were given;
    a second id of it stands under `OTHER_ID`.

    Raises:
        RowError: it has no name, two different arguments, or a field that nothing here reads.
    """
    function = call.get("function", call) if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RowError(f"{place}: expected a call with function.name, got {described(call)}; name it")
    if not function["name"].strip():
        raise RowError(f"{place}: expected a call with function.name, got an empty name; name it")
    named = {"name": function["name"], "arguments": given_arguments({**call, **function}, place)}
    _check_read(function, place)
    if function is not call:
        _check_read(call, place)
    # Where there are two, as in OpenAI's responses, the result has that of the call, and seldom that of the item.
    own = call.get("call_id") or call.get("tool_call_id") or call.get("id")
    identity = {"id": own} if own is not None else {}
    other = next((call[key] for key in ("id", OTHER_ID) if call.get(key) not in (*EMPTY, own)), None)
    identity |= {OTHER_ID: other} if other is not None else {}
    return {**identity, "type": "function", "function": named}


def given_arguments(function: Fields, place: str) -> Any:
    """The arguments of a call, a mapping or text; an empty mapping where it has none.

    Raises:
        RowError: two of its fields hold arguments, and they differ.
    """
    given = {name: function[name] for name in ARGUMENTS if function.get(name) is not None}
    if len(given) > 1:
        first, *others = map(_decoded, given.values())
        if any(other != first for other in others):
            raise RowError(f"{place}: expected one set of arguments, got {' and '.join(given)} that differ; remove one")
    return next(iter(given.values()), {})


def _check_read(fields: Fields, place: str) -> None:
    if fields.keys() <= SAYS_NOTHING:
        return
    for name in sorted(fields.keys() - SAYS_NOTHING - {*ARGUMENTS}):
        if fields[name] not in EMPTY:
            raise RowError(
                f"{place}.{name}: expected a name and arguments in a call, got {described(fields[name])}, which "
                "nothing here reads; move it into the arguments, or remove it"
            )


def _decoded(arguments: Any) -> Any:
    try:
        return json_value(arguments) if isinstance(arguments, str) else arguments
    except (ValueError, RecursionError):
        return arguments
