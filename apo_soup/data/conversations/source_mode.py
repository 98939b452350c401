"""In which mode a source's rows are trained where neither they nor the recipe say so: by what they hold.

Plain instruction rows know nothing of think and no-think mode. A source whose first rows hold no reasoning is a
no-think source; one that mixes both must say `mode: by_row`, because a think row that lost its reasoning would
otherwise pass for a no-think row.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any, TypeVar

from apo_soup.data.conversations.conversation import Conversation, PlainText, RowItem
from apo_soup.data.conversations.formats import canonical, format_of_row
from apo_soup.data.conversations.reasoning import EMPTY_BLOCK
from apo_soup.data.sources.mixture import MixtureSource
from apo_soup.data.sources.rows import Fields, RowError
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError
from apo_soup.models.think_tags import THINKING
from apo_soup.progress import warning

ModedT = TypeVar("ModedT", bound=RowItem)
ParseRow = Callable[[Fields, dict[str, Any]], RowItem]
ROWS_LOOKED_AT = 1000
LEADING = 64  # characters among which an empty think block begins
EMPTY_TAKEN_OFF = "a no-think answer began with an empty think block, which was taken off, as the template writes it"
AS_WORDS = "chat_template_kwargs: {enable_thinking: false} where what looks like it is words of the answer"
ASSUMED = "no-think, as no row among the first of its source holds reasoning"


def sources_in_mode(
    entries: Iterator[MixtureSource], defaults: dict[str, Any], parse: ParseRow, say: Callable[[str], None]
) -> Iterator[MixtureSource]:
    """The sources of a mixture under a template that knows modes, each with the mode of its rows.

    Args:
        defaults: the recipe's template arguments.
        parse: a row's canonical fields as an item, as it will be encoded; raises RowError.
        say: told which sources are taken for no-think ones.

    Raises:
        UserError: a source mixes rows with and without reasoning, and nothing says which mode they are in.
    """
    for entry in entries:
        source = entry.source
        if source.mode or "enable_thinking" in {**defaults, **dict(source.chat_template_kwargs)}:
            yield entry
            continue
        looked_at = list(islice(entry.rows, ROWS_LOOKED_AT))
        with_reasoning, without = [], []
        for row in looked_at:
            try:
                row_format = format_of_row(row.fields, entry.format, source.format is not None)
                item = parse(canonical(row.fields, row_format), defaults)
            except RowError:
                continue  # it is counted and listed when it is encoded
            if isinstance(item, PlainText) or item.stated_mode is not None:
                continue
            if item.reasons:
                with_reasoning.append(row.place)
            else:
                without.append(row.place)
        if without and with_reasoning:
            raise UserError(
                f"{source.place}: source {source.name}: expected rows of one mode, got {len(with_reasoning)} with "
                f"reasoning ({with_reasoning[0]} first) and {len(without)} without ({without[0]}) among the first "
                f"{len(looked_at)}; write mode: by_row into the source's entry, or {AS_WORDS}"
            )
        if without:
            say(
                warning(
                    f"source {source.name}: none of the first {len(without)} rows holds reasoning, so its rows are "
                    "no-think rows; chat_template_kwargs: {enable_thinking: true} or mode: by_row in its entry says "
                    "otherwise"
                )
            )
            source = replace(source, mode="assumed")
        yield replace(entry, source=source, rows=chain(looked_at, entry.rows))


def in_mode(item: ModedT, source: Source, place: str) -> ModedT:
    """A row with the mode that its source gives it, where it states none itself.

    Raises:
        UserError: a row with reasoning in a source that was taken for a no-think one.
    """
    if not source.mode or isinstance(item, PlainText) or item.stated_mode is not None:
        return item
    if item.reasons and source.mode == "assumed":
        raise UserError(
            f"{source.place}: source {source.name}: expected no-think rows, as none among the first held reasoning, "
            f"got reasoning in {place}; write mode: by_row into the source's entry, or chat_template_kwargs: "
            f"{{enable_thinking: true}} where every row should hold some, or {AS_WORDS}"
        )
    return replace(item, kwargs={**item.kwargs, "enable_thinking": item.reasons})


def without_empty_blocks(item: ModedT) -> ModedT:
    """A no-think row without the empty think blocks that its answers begin with; the template prefills them."""
    if isinstance(item, PlainText) or not any(THINKING in m["content"][:LEADING] for m in item.messages):
        return item
    if item.mode == "think":
        return item
    names = ("messages",) if isinstance(item, Conversation) else ("chosen", "rejected")
    changed: dict[str, Any] = {}
    for name in names:
        messages = getattr(item, name)
        if any(m["role"] == "assistant" and EMPTY_BLOCK.match(m["content"]) for m in messages):
            changed[name] = [_without_empty_block(m) for m in messages]
    return replace(item, **changed) if changed else item


def _without_empty_block(message: Fields) -> Fields:
    block = EMPTY_BLOCK.match(message["content"]) if message["role"] == "assistant" else None
    bare = message["content"][block.end() :] if block else ""
    return {**message, "content": bare} if bare else message
