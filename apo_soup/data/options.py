"""What a training file says about becoming tokens."""

from dataclasses import dataclass
from typing import Any

from apo_soup.config.sft import SftFile, TrainOn
from apo_soup.config.training import TrainingFile
from apo_soup.data.rendering.texts import TokenPolicy
from apo_soup.data.sources.source import template_arguments


@dataclass(frozen=True)
class Options:
    """The keys of a training file that decide what becomes of a row.

    `max_length` is in tokens; `overflow` is truncate, drop or split; `strategy` is how documents are packed: bfd,
    wrapped, or None for a document a sequence.
    """

    pairs: bool
    max_length: int
    overflow: str
    strategy: str | None
    assistant_only_loss: bool
    completion_only_loss: bool | None
    template_kwargs: dict[str, Any]
    special_tokens_in_text: TokenPolicy = "refuse"
    train_on: TrainOn = "all_turns"

    @classmethod
    def of(cls, recipe: TrainingFile) -> "Options":
        """From a training file; TRL's `bfd_split` is `overflow: split` by another name."""
        sft = recipe if isinstance(recipe, SftFile) else None
        packing = sft.packing_strategy if sft and sft.packing else None
        split = packing == "bfd_split"
        return cls(
            pairs=sft is None,
            max_length=recipe.max_length,
            overflow=recipe.overflow or ("split" if split else "truncate"),
            strategy="bfd" if split else packing,
            assistant_only_loss=sft is not None and sft.assistant_only_loss,
            completion_only_loss=sft.completion_only_loss if sft else None,
            template_kwargs=template_arguments(recipe.chat_template_kwargs),
            train_on=sft.train_on if sft else "all_turns",
            special_tokens_in_text=recipe.special_tokens_in_text,
        )

    @property
    def wrapped(self) -> bool:
        """Whether documents are cut by the packer, as one stream, so that none of them is too long."""
        return self.strategy == "wrapped"
