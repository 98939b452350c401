"""The file of the embedded world's rows: `data.yaml`."""

from collections.abc import Iterator
from typing import ClassVar

from apo_soup.config.keys import Positive, Seed, Text, key
from apo_soup.config.nearest import nearest
from apo_soup.config.stage_file import Fault, StageFile

# The files of rows that the embedded world knows.
ROW_FILE_NAMES = (
    "extend_asked", "mid_think", "mid_asked", "sft_think", "sft_no_think", "sft_turns", "sft_lookup", "sft_talk",
    "sft_requests", "sft_tool", "preference", "request_pairs", "pair_prompts", "heldout_problems", "heldout_wordings",
    "heldout_needles", "heldout_long_needles", "heldout_pairs", "heldout_think_pairs", "heldout_requests",
    "heldout_tools", "tuning_problems", "tuning_needles", "tuning_pairs", "tuning_think_pairs", "tuning_requests",
    "tuning_tools",
)  # fmt: skip


class DataFile(StageFile):
    """How many rows of each kind are generated."""

    kind: ClassVar[str] = "data"

    counts: dict[Text, Positive] = key(meaning="rows by the name of their file")
    seed: Seed = key(0, "seed of the generator")

    def faults(self) -> Iterator[Fault]:
        for name in self.counts or {}:
            if name not in ROW_FILE_NAMES:
                way = nearest(name, ROW_FILE_NAMES) or "name one of them"
                yield Fault(f"counts.{name}", f"expected one of {', '.join(ROW_FILE_NAMES)}, got {name}; {way}")
