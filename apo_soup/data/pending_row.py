"""A rendered row on its way through the tokenizer."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from tokenizers import Encoding

from apo_soup.data.conversations.conversation import RowItem
from apo_soup.data.rendering.plain_tokens import PlainTokens
from apo_soup.data.rendering.template import Span

ItemT = TypeVar("ItemT", bound=RowItem)


@dataclass(slots=True)
class PendingRow(Generic[ItemT]):
    """A rendered row whose texts are being tokenised; `index` is its number in the batch, `spans` the trained
    characters of its text. Of the characters that all its texts begin with, `shared` are tokenised once and alone;
    `prefixes` are the tokens that the cache has of the beginning of each part. `plain` are the tokens of texts with
    control tokens in them that are plain text; such texts are tokenised already. `ranges` are the trained tokens of its
    first text, `crossed` says that a token of it reaches over the border of a span, and `thought_ends` where think
    blocks end among the tokens of each; all are known once they are tokenised.
    """

    index: int
    item: ItemT
    texts: list[str]
    spans: list[Span]
    prefixes: list[list[int] | None] = field(default_factory=list)
    shared: int = 0
    plain: list[PlainTokens] | None = None
    ranges: list[Span] = field(default_factory=list)
    crossed: bool = False
    thought_ends: list[list[int]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def parts(self) -> list[str]:
        """What is tokenised, each for itself."""
        if not self.shared:
            return self.texts
        return [self.texts[0][: self.shared], *(text[self.shared :] for text in self.texts)]

    def joined(self, rests: Iterator[Encoding]) -> list[list[int]]:
        """The tokens of every text, from those of the rest of every part."""
        ids = [prefix + rest.ids if prefix else rest.ids for prefix, rest in zip(self.prefixes, rests, strict=False)]
        if not self.shared:
            return ids
        shared, *behind = ids
        return [shared + rest for rest in behind]
