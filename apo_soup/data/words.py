"""The words of rows and of texts, however they are written: what duplicates and contamination are recognised by."""

import re
import unicodedata
from collections.abc import Iterator
from typing import Any

from apo_soup.data.conversations.conversation import Conversation, PlainText, RowItem
from apo_soup.data.sources.rows import Fields

# Scripts that write without spaces count a character as a word.
WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]|[^\W_]+")
# Characters inside a word that nobody sees: soft hyphen, zero-width space and joiners, byte order mark.
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
SHINGLE = 5


def words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation, however their characters are composed."""
    if not text.isascii():
        text = INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    return WORD.findall(text.lower())


def ngrams(text_words: list[str], length: int) -> Iterator[str]:
    """Every run of `length` words, as one string.

    >>> list(ngrams(["a", "b", "c"], 2))
    ['a b', 'b c']
    """
    for start in range(len(text_words) - length + 1):
        yield " ".join(text_words[start : start + length])


def shingles(text_words: list[str]) -> set[str]:
    """Every run of five words; all of them as one where there are fewer."""
    return {" ".join(text_words[i : i + SHINGLE]) for i in range(max(1, len(text_words) - SHINGLE + 1))}


def item_turns(item: RowItem) -> list[Fields]:
    """A row's turns; none of a plain text."""
    if isinstance(item, PlainText):
        return []
    return item.messages if isinstance(item, Conversation) else [*item.prompt, *item.chosen, *item.rejected]


def item_content(item: RowItem) -> list[Any]:
    """What a row's turns say: role, content, reasoning and calls, and nothing else that a message may carry."""
    if isinstance(item, PlainText):
        return [item.text]
    keys = ("role", "content", "reasoning_content")
    return [[*(m.get(k) for k in keys), [c["function"] for c in m.get("tool_calls") or []]] for m in item_turns(item)]


def item_setting(item: RowItem) -> dict[str, Any]:
    """What decides how a row's turns are rendered, and which of them are trained: its mode, its template arguments
    (tools among them) and its masks.
    """
    setting = {name: value for name, value in item.kwargs.items() if name != "enable_thinking"} | {"mode": item.mode}
    if isinstance(item, Conversation):
        setting |= {"masked": sorted(item.masked_turns), "completion": item.completion_turns}
    return setting


def item_texts(item: RowItem) -> list[str]:
    """The text of every turn of a row, its reasoning and calls among them."""
    if isinstance(item, PlainText):
        return [item.text]
    texts = []
    for message in item_turns(item):
        calls = _strings([c["function"] for c in message.get("tool_calls") or []])
        texts.append(" ".join([message.get("reasoning_content") or "", message.get("content") or "", *calls]))
    # Template arguments such as custom_instructions are text that the model reads.
    return texts + [value for value in item.kwargs.values() if isinstance(value, str)]


def _strings(value: Any) -> list[str]:
    """All text and numbers inside a value, as they are and not as JSON writes them."""
    if isinstance(value, (str, int, float)):
        return [str(value)]
    if isinstance(value, dict):
        return [s for k, v in value.items() for s in (str(k), *_strings(v))]
    return [s for v in value for s in _strings(v)] if isinstance(value, list) else []
