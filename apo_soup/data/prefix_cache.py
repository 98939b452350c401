"""Tokenise the beginning that many rows share once.

Rows of one source often begin alike: the same system turn, the same ten pages of tools. A tokenizer takes the
end-of-turn token out of a text before it looks at anything else, so what stands before it and what stands behind it
are tokenised as if they were alone, and the tokens of a shared beginning may be kept.
"""

import numpy as np
from transformers import PreTrainedTokenizerBase

from apo_soup.models.tokenizer import encode_ids

KEPT = 1024
REMEMBERED = 16384


class SharedHeads:
    """Tokens of the texts up to their first end-of-turn token that were met before."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, byte_level: bool):
        self.tokenizer = tokenizer
        self.end = tokenizer.eos_token
        added = next((t for t in tokenizer.added_tokens_decoder.values() if t.content == self.end), None)
        plain = added is not None and not (added.lstrip or added.rstrip or added.single_word)
        # Tokenizers that are not byte-level write a space or a mark at the start of what they are given.
        self.usable = byte_level and plain
        self.known: dict[str, np.ndarray] = {}
        self.once: set[int] = set()

    def split(self, text: str) -> tuple[np.ndarray | None, str]:
        """The tokens of the shared beginning and the rest of the text; None and the whole text where it is not shared.

        A beginning is kept the second time it is met, so texts that all begin otherwise fill no memory.
        """
        cut = text.find(self.end) + len(self.end) if self.usable else -1
        if cut < len(self.end):
            return None, text
        head = text[:cut]
        ids = self.known.get(head)
        if ids is None:
            mark = hash(head)
            if mark not in self.once or len(self.known) >= KEPT:
                if len(self.once) >= REMEMBERED:
                    self.once.clear()
                self.once.add(mark)
                return None, text
            ids = np.array(encode_ids(self.tokenizer, [head])[0].ids, dtype=np.int32)
            self.known[head] = ids
        return ids, text[cut:]
