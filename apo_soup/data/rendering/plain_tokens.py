"""Control tokens inside texts, tokenised as the plain text that they are (`split_special_tokens`).

A text has a mark inside of such tokens, a character of no text, before it goes through the template, so that neither
the template nor the tokenizer takes them for its own. What the template itself writes is tokenised as always: by a copy
of the tokenizer that knows its control tokens by that mark alone.
"""

import json
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from apo_soup.data.char_to_token import own_offsets, taking_space
from apo_soup.data.rendering.control_tokens import ControlTokens
from apo_soup.data.rendering.template import Span
from apo_soup.data.sources.rows import RowError
from apo_soup.models.tokenizer import plain_backend

# A character that Unicode keeps for use inside programs, as those of `template.py`.
MARK = "\ufdd2"


@dataclass(frozen=True)
class PlainTokens:
    """Tokens of a text whose control tokens are plain: ids `[S]` and the characters `[start, end)` of each."""

    ids: np.ndarray
    offsets: list[Span]


def marked(text: str, tokens: ControlTokens, unfit: list[str]) -> str:
    """A text with a mark inside each of its unfit tokens."""
    return tokens.pattern.sub(lambda m: m[0][0] + MARK + m[0][1:] if m[0] in unfit else m[0], text)


def mapped_text(value: Any, change: Callable[[str], str]) -> Any:
    """A value with every text in it changed, keys too."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {mapped_text(k, change): mapped_text(v, change) for k, v in value.items()}
    return [mapped_text(v, change) for v in value] if isinstance(value, list) else value


def without_marks(text: str, spans: list[Span]) -> tuple[str, list[Span], frozenset[int]]:
    """A rendered text as it reads, its spans in it, and where its plain control tokens begin.

    Raises:
        RowError: the template writes the mark as an escape.
    """
    if f"\\u{ord(MARK):x}" in text:
        raise RowError(
            "chat_template: expected text, got control tokens in a value that it writes as ASCII, so they cannot "
            "be told apart; remove them from the row"
        )
    places = [place for place, character in enumerate(text) if character == MARK]
    moved = [(start - bisect_left(places, start), end - bisect_left(places, end)) for start, end in spans]
    return text.replace(MARK, ""), moved, frozenset(place - number - 1 for number, place in enumerate(places))


class PlainTokenizer:
    """Tokenises texts that hold control tokens as plain text."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, tokens: ControlTokens):
        self.tokenizer, self.tokens = tokenizer, tokens
        self._taking_space = taking_space(tokenizer)

    @cached_property
    def _copy(self) -> tuple[Tokenizer, dict[int, int], frozenset[str]]:
        """The tokenizer with a mark before each of its control tokens, their ids in it as ids of the tokenizer, and
        those of the control tokens that it knows.
        """
        content = json.loads(plain_backend(self.tokenizer).to_str())
        for token in content["added_tokens"]:
            if token["content"] in self.tokens.tokens:
                token["content"] = MARK + token["content"]
        copy = Tokenizer.from_str(json.dumps(content))
        vocabulary = self.tokenizer.get_vocab()
        marked_vocabulary = copy.get_vocab()
        known = [token for token in self.tokens.tokens if token in vocabulary]
        return copy, {marked_vocabulary[MARK + token]: vocabulary[token] for token in known}, frozenset(known)

    def encode(self, text: str, plain: frozenset[int]) -> PlainTokens:
        """The tokens of a rendered text; the control tokens that begin at `plain` are text.

        Raises:
            RowError: the tokenizer has no other tokens for the text of a control token.
        """
        copy, ids_of, known = self._copy
        parts: list[str] = []
        places: list[int] = []
        before = position = 0
        while match := self.tokens.pattern.search(text, position):
            position = match.start() + 1 if match.start() in plain else match.end()
            if match.start() not in plain and match[0] in known:
                places.append(match.start() + len(places))
                parts += [text[before : match.start()], MARK]
                before = match.start()
        encoding = copy.encode("".join([*parts, text[before:]]), add_special_tokens=False)
        ids = [ids_of.get(token, token) for token in encoding.ids]
        control = set(ids_of.values())
        if sum(token in control for token in ids) != len(places):
            raise RowError(
                "special_tokens_in_text: expected plain tokens for the text of a control token, got a tokenizer that "
                "has none; remove it from the row"
            )
        offsets = [(a - bisect_left(places, a), b - bisect_left(places, b)) for a, b in encoding.offsets]
        return PlainTokens(np.array(ids, dtype=np.int32), own_offsets(text, ids, offsets, self._taking_space))
