"""Rows of an evaluation as training reads them: formats, dialects, tags and modes, with the cures of a task."""

import re
from typing import Any

from apo_soup.data.conversations.conversation import Conversation, PreferencePair, parse_conversation
from apo_soup.data.conversations.formats import in_own_shape
from apo_soup.data.conversations.pair import parse_pair
from apo_soup.data.conversations.source_mode import in_mode_of_row, without_empty_blocks
from apo_soup.data.conversations.tagged_thoughts import with_think_blocks
from apo_soup.data.conversations.turn_order import check_order
from apo_soup.data.rendering.argument_form import with_instructions
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import Fields

# What sentences about rows name of a source in a mixture, for which a task has no key.
KEY_OF_SOURCE = re.compile(
    r"write (system_turn|turn_order|rename|mode): (\{.*?\}|\w+)(?: for| into) the source(?:'s entry)?"
)
OF_FILE = {
    "system_turn": "write the system text into the first user turn of the row",
    "turn_order": "bring the row's turns into the usual order",
    "mode": "give the row enable_thinking",
}


def as_trained_conversation(row: Fields, renderer: Renderer | None) -> Conversation:
    """A conversation of any format that training reads, as it would be trained; without a `renderer`, as it stands.

    Raises:
        RowError: it is none, or the template refuses it.
    """
    fields = renderer.readable(row) if renderer else row
    item = parse_conversation(in_own_shape(fields, pairs=False), {})
    return _as_trained(item, renderer) if renderer else item


def as_trained_pair(row: Fields, renderer: Renderer | None) -> PreferencePair:
    """The same of a preference pair.

    Raises:
        RowError: as `as_trained_conversation` does.
    """
    fields = renderer.readable(row) if renderer else row
    item = parse_pair(in_own_shape(fields, pairs=True), {})
    return _as_trained(item, renderer) if renderer else item


def told_of_task(error: Exception) -> str:
    """What is wrong with a row, with the cure that there is for rows of a task.

    >>> told_of_task(ValueError("got none; write rename: {question: prompt} for the source"))
    "got none; name the row's fields as rename: {question: prompt} would"
    """
    return KEY_OF_SOURCE.sub(
        lambda key: OF_FILE.get(key[1], f"name the row's fields as rename: {key[2]} would"), str(error)
    )


def _as_trained(item: Any, renderer: Renderer) -> Any:
    if renderer.knows_blocks:
        item, _ = with_think_blocks(item, renderer.knows_tag)
    item, _ = with_instructions(item, renderer.argument_form)
    if renderer.knows_modes:
        item = without_empty_blocks(in_mode_of_row(item))
    if item.unusual_order:
        check_order(item.in_order, item.kwargs, renderer.render)
    return item
