"""Tokenise the beginning that many rows share once.

Rows of one source often begin alike: the same system turn, the same ten pages of tools. Where a text may be cut behind
its end-of-turn tokens (`text_cuts.py`), the tokens of a shared beginning may be kept.
"""

from transformers import PreTrainedTokenizerBase

from apo_soup.data.text_cuts import TextCuts
from apo_soup.models.tokenizer import encode_ids

KEPT_PREFIXES = 1024
REMEMBERED_DIGESTS = 16384


class PrefixCache:
    """Tokens of texts up to their first end-of-turn token, kept from the second time a beginning is met."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, cuts: TextCuts):
        self.tokenizer = tokenizer
        self.end = tokenizer.eos_token
        self.usable = self.end in cuts.tokens
        self.known: dict[str, list[int]] = {}
        self.once: set[int] = set()

    def split(self, text: str) -> tuple[list[int] | None, str]:
        """The tokens of the shared beginning and the rest of the text; None and the whole text where it is not
        shared.

        A beginning is kept the second time it is met, so texts that all begin otherwise fill no memory.
        """
        cut = text.find(self.end) + len(self.end) if self.usable else -1
        if cut < len(self.end):
            return None, text
        prefix = text[:cut]
        ids = self.known.get(prefix)
        if ids is None:
            digest = hash(prefix)
            if digest not in self.once or len(self.known) >= KEPT_PREFIXES:
                if len(self.once) >= REMEMBERED_DIGESTS:
                    self.once.clear()
                self.once.add(digest)
                return None, text
            ids = list(encode_ids(self.tokenizer, [prefix])[0].ids)
            self.known[prefix] = ids
        return ids, text[cut:]
