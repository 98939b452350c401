"""In which mode a source's rows are trained where neither they nor the recipe say so: by what they hold.

Plain instruction rows know nothing of think and no-think mode. A source whose first rows hold no reasoning is a
no-think source; one that mixes both must say `mode: by_row`, because a think row that lost its reasoning would
otherwise pass for a no-think row.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import chain, islice
from typing import Any, TypeVar

from apo_soup.data.conversations.conversation import Conversation, PlainText, PreferencePair, RowItem
from apo_soup.data.conversations.formats import canonical, format_of_row
from apo_soup.data.conversations.reasoning import EMPTY_BLOCK, opens_with_reasoning, thinks_first
from apo_soup.data.sources.mixture import MixtureSource
from apo_soup.data.sources.rows import Fields, RowError
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError
from apo_soup.models.think_tags import THINKING
from apo_soup.progress import warning

ModedT = TypeVar("ModedT", bound=RowItem)
ParseRow = Callable[[Fields, dict[str, Any]], tuple[RowItem, bool]]
ROWS_LOOKED_AT = 1000
# So many of them may have what looks like reasoning and may be words: tags of another family, or among the words.
UNSURE_SHARE = 0.01
LEADING = 64  # characters among which an empty think block begins
EMPTY_TAKEN_OFF = "a no-think answer began with an empty think block, which was taken off, as the template writes it"
BY_ROW = "write mode: by_row into the source's entry"
AS_WORDS = ", or chat_template_kwargs: {enable_thinking: false} where what looks like it is words of the answer"
AMONG_WORDS = (
    "expected reasoning in front of an answer or in a field of its own, got think tags among its words, so it is not "
    "sure that the row thinks; give the row enable_thinking: true if it does, else take the tags out"
)
ASSUMED = "no-think, as no row among the first of its source holds reasoning"


def sources_in_mode(
    entries: Iterator[MixtureSource], defaults: dict[str, Any], parse: ParseRow, say: Callable[[str], None]
) -> Iterator[MixtureSource]:
    """The sources of a mixture under a template that knows modes, each with the mode of its rows.

    Args:
        defaults: the recipe's template arguments.
        parse: a row's canonical fields as an item, as it will be encoded, and whether tags of another name than
            templates know were read as think blocks; raises RowError.
        say: told which sources are taken for no-think ones.

    Raises:
        UserError: a source mixes rows with and without reasoning, and nothing says which mode they are in.
    """
    for entry in entries:
        source = entry.source
        arguments = {**defaults, **dict(source.chat_template_kwargs)}
        if source.mode or "enable_thinking" in arguments:
            yield entry
            continue
        looked_at = list(islice(entry.rows, ROWS_LOOKED_AT))
        sure, unsure, without = list[str](), list[str](), list[str]()
        tags = False
        for row in looked_at:
            try:
                row_format = format_of_row(row.fields, entry.format, source.format is not None)
                item, tagged = parse(canonical(row.fields, row_format), arguments)
            except RowError:
                continue  # it is counted and listed when it is encoded
            if isinstance(item, PlainText) or item.stated_mode is not None:
                continue
            tags = tags or tagged
            if tagged or (item.reasons and not _of_answers(opens_with_reasoning, item)):
                unsure.append(row.place)
            else:
                (sure if item.reasons else without).append(row.place)
        if without and (sure or len(unsure) > UNSURE_SHARE * (len(unsure) + len(without))):
            raise UserError(
                f"{source.place}: source {source.name}: expected rows of one mode, got {len(sure) + len(unsure)} with "
                f"reasoning ({[*sure, *unsure][0]} first) and {len(without)} without ({without[0]}) among the first "
                f"{len(looked_at)}; {BY_ROW}{AS_WORDS if tags else ''}"
            )
        if without:
            beside = f"; {len(unsure)} with tags of reasoning, {unsure[0]} first, are rejected" if unsure else ""
            say(
                warning(
                    f"source {source.name}: none of the first {len(without)} rows holds reasoning, so its rows are "
                    "no-think rows; chat_template_kwargs: {enable_thinking: true} or mode: by_row in its entry says "
                    f"otherwise{beside}"
                )
            )
            source = replace(source, mode="assumed")
        yield replace(entry, source=source, rows=chain(looked_at, entry.rows))


def in_mode(item: ModedT, source: Source, place: str) -> ModedT:
    """A row with the mode that its source gives it, where it states none itself.

    Raises:
        RowError: think tags stand among the words of an answer and nowhere else.
        UserError: a row with reasoning in a source that was taken for a no-think one.
    """
    if not source.mode:
        return item
    moded = in_mode_of_row(item)
    if source.mode == "assumed" and not isinstance(item, PlainText) and moded is not item and moded.mode == "think":
        if not _of_answers(opens_with_reasoning, item):
            raise RowError(AMONG_WORDS)
        raise UserError(
            f"{source.place}: source {source.name}: expected no-think rows, as none among the first held reasoning, "
            f"got reasoning in {place}; {BY_ROW}, or chat_template_kwargs: {{enable_thinking: true}} where every row "
            "should hold some"
        )
    return moded


def in_mode_of_row(item: ModedT) -> ModedT:
    """A row in the mode of what it holds, where it states none.

    Raises:
        RowError: think tags stand among the words of an answer and nowhere else.
    """
    if isinstance(item, PlainText) or item.stated_mode is not None:
        return item
    if item.reasons and not _of_answers(thinks_first, item):
        raise RowError(AMONG_WORDS)
    return replace(item, kwargs={**item.kwargs, "enable_thinking": item.reasons})


def tags_in_no_think(told: list[str]) -> RowError:
    """The error of a row of a source that was taken for a no-think one, of which remarks tell what was read as
    reasoning and may be words.
    """
    return RowError(
        "expected a no-think row, as none among the first of its source held reasoning, got an answer with a thought "
        f"({'; '.join(told)}); {BY_ROW} if it is one{AS_WORDS}"
    )


def _of_answers(holds: Callable[[Fields], bool], item: Conversation | PreferencePair) -> bool:
    return any(map(holds, item.answers if isinstance(item, Conversation) else item.chosen))


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
