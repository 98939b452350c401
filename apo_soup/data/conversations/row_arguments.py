"""The template arguments of a row: the recipe's, and what the row itself says, its tools among them."""

import json
from typing import Any

from apo_soup.data.conversations.tool_schemas import row_tools
from apo_soup.data.conversations.turn_fields import TOOL_FIELDS
from apo_soup.data.sources.rows import Fields, RowError, described


def template_kwargs(fields: Fields, defaults: dict[str, Any]) -> dict[str, Any]:
    """Template arguments: the recipe's, then the row's `chat_template_kwargs`, then its tool columns.

    Raises:
        RowError: naming the argument that is not what templates read.
    """
    own = fields.get("chat_template_kwargs") or {}
    if isinstance(own, str):
        try:
            own = json.loads(own)
        except (ValueError, RecursionError):
            raise RowError(
                f"field chat_template_kwargs: expected a mapping, got text {own[:40]!r}; write it as JSON"
            ) from None
    if not isinstance(own, dict):
        raise RowError(f"field chat_template_kwargs: expected a mapping, got {type(own).__name__}; write one")
    merged = {**defaults, **own}
    if "add_generation_prompt" in merged:
        raise RowError("field chat_template_kwargs: expected no add_generation_prompt, got one; remove it")
    if not isinstance(merged.get("custom_instructions") or "", str):
        raise RowError(
            f"field chat_template_kwargs: custom_instructions: expected text, got "
            f"{described(merged['custom_instructions'])}; correct it"
        )
    for key in TOOL_FIELDS:
        # An empty column says nothing, as in the rows without tools of a set that has some.
        tools = row_tools(fields.get(key), key) or row_tools(merged.get(key), key)
        if tools:
            merged[key] = tools
        else:
            merged.pop(key, None)
    return merged
