"""Where a text may be cut so that its parts have the tokens of the whole.

A byte-level tokenizer takes its added tokens out of a text before it looks at anything else, so what stands before such
a token and what stands behind it are tokenised as if they were alone. That holds for a token that takes no white space
along and that no other one overlaps: wherever it is written, it is found.
"""

import re
from functools import cached_property

from transformers import PreTrainedTokenizerBase


class TextCuts:
    """The tokens of a tokenizer behind which a text may be cut; none unless it is `byte_level`, for other tokenizers
    write a space or a mark at the start of what they are given.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, byte_level: bool):
        self.tokens = frozenset(_apart(tokenizer)) if byte_level else frozenset()

    def last(self, text: str) -> int:
        """The position behind the last such token of a text; 0 where there is none."""
        end = 0
        if self.tokens:
            for found in self._pattern.finditer(text):
                end = found.end()
        return end

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("|".join(map(re.escape, sorted(self.tokens))))


def _apart(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The added tokens that take no white space along and share no character with another in any text."""
    added = [token for token in tokenizer.added_tokens_decoder.values() if token.content]
    texts = {token.content for token in added}
    beginnings = {text[:n] for text in texts for n in range(1, len(text) + 1)}
    endings = {text[n:] for text in texts for n in range(len(text))}
    together = "\0".join(texts)

    def overlapped(text: str) -> bool:
        places = range(1, len(text))
        return (
            any(text[:n] in endings or text[n:] in beginnings for n in places)
            or together.count(text) > 1
            or any(text[a:b] in texts for a in places for b in range(a + 1, len(text)))
        )

    return [t.content for t in added if not (t.lstrip or t.rstrip or t.single_word or overlapped(t.content))]
