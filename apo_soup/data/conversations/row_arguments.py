"""The template arguments of a row: the recipe's, and what the row itself says, its tools among them."""

from typing import Any

from apo_soup.data.conversations.tool_schemas import row_tools, same_tools
from apo_soup.data.conversations.turn_fields import EMPTY, MODE_FIELDS, OLDER_TOOLS, TOOL_FIELDS, told_mode
from apo_soup.data.sources.json_text import RepeatedKeyError, json_value
from apo_soup.data.sources.rows import Fields, RowError, described


def template_kwargs(fields: Fields, defaults: dict[str, Any]) -> dict[str, Any]:
    """Template arguments: the recipe's, then the row's `chat_template_kwargs`, then its columns of mode and tools.

    Raises:
        RowError: naming the argument that is not what templates read.
    """
    own = _own_arguments(fields)
    merged = {**defaults, **own}
    if not fields.keys().isdisjoint(MODE_FIELDS):
        merged |= _mode_of_columns(fields, own)
    if not isinstance(merged.get("custom_instructions") or "", str):
        raise RowError(
            f"field chat_template_kwargs: custom_instructions: expected text, got "
            f"{described(merged['custom_instructions'])}; correct it"
        )
    _check_own_words(merged)
    if OLDER_TOOLS in fields:
        fields = _with_older_tools(fields)
    told = {}
    for key in TOOL_FIELDS:
        # An empty column says nothing, as in the rows without tools of a set that has some.
        if not fields.get(key) and not merged.get(key):  # most rows, without two calls
            merged.pop(key, None)
            continue
        column, inside = row_tools(fields.get(key), key), row_tools(merged.get(key), key)
        if column and key in own and inside and not same_tools(column, inside):
            raise RowError(f"field {key}: expected tools once, got others in chat_template_kwargs; remove one")
        if column or inside:
            merged[key] = column or inside
        else:
            merged.pop(key, None)
        if column or (inside and key in own):
            told[key] = column or inside
    if len(told) > 1 and "tools" in told:
        for key, tools in told.items():
            if not same_tools(tools, told["tools"]):
                raise RowError(f"fields tools, {key}: expected tools once, got two lists that differ; remove one")
    return merged


def _own_arguments(fields: Fields) -> dict[str, Any]:
    """A row's `chat_template_kwargs`, a mapping or its JSON text; raises RowError where it is neither."""
    own = fields.get("chat_template_kwargs") or {}
    if isinstance(own, str):
        try:
            own = json_value(own)
        except RepeatedKeyError:
            raise
        except (ValueError, RecursionError):
            raise RowError(
                f"field chat_template_kwargs: expected a mapping, got text {own[:40]!r}; write it as JSON"
            ) from None
    if not isinstance(own, dict):
        raise RowError(f"field chat_template_kwargs: expected a mapping, got {type(own).__name__}; write one")
    return own


def _with_older_tools(fields: Fields) -> Fields:
    """A row with its `functions` as `tools`; raises RowError where it has others as well."""
    older, tools = row_tools(fields[OLDER_TOOLS], OLDER_TOOLS), row_tools(fields.get("tools"), "tools")
    if older and tools and not same_tools(older, tools):
        raise RowError(f"fields tools, {OLDER_TOOLS}: expected tools once, got two lists that differ; remove one")
    return {**fields, "tools": tools or [{"type": "function", "function": tool} for tool in older]}


def _mode_of_columns(fields: Fields, own: dict[str, Any]) -> dict[str, bool]:
    """The mode that columns of a row say: `enable_thinking` true or false, `reasoning` on or off, and the like.

    Raises:
        RowError: they contradict one another or the row's own arguments, or `enable_thinking` is neither yes nor no.
    """
    told: dict[str, Any] = {}
    for name in MODE_FIELDS:
        if name in fields:
            mode = told_mode(fields[name])
            if mode is not None:
                told[name] = mode
            elif name == "enable_thinking" and fields[name] not in EMPTY:
                raise RowError(
                    f"field enable_thinking: expected true or false, got {described(fields[name])}; correct the row"
                )
    if not told:
        return {}
    if own.get("enable_thinking") is not None:
        told["chat_template_kwargs"] = own["enable_thinking"]
    if len(set(told.values())) > 1:
        raise RowError(f"fields {', '.join(told)}: expected one mode of the row, got two that differ; remove one")
    return {"enable_thinking": next(iter(told.values()))}


def _check_own_words(arguments: dict[str, Any]) -> None:
    """Raise RowError at an argument that the template gets from elsewhere, or a mode that is neither yes nor no."""
    taken = next((name for name in ("add_generation_prompt", "messages") if name in arguments), None)
    if taken:
        raise RowError(f"field chat_template_kwargs: expected no {taken}, got one; remove it")
    thinks = arguments.get("enable_thinking")
    if thinks not in (None, True, False):
        raise RowError(
            f"field chat_template_kwargs: enable_thinking: expected true or false, got {described(thinks)}; write true "
            "or false without quotes"
        )
