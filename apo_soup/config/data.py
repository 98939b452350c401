"""The file of the embedded world's rows: `data.yaml`."""

from typing import ClassVar

from apo_soup.config.keys import Positive, Text, Whole, key
from apo_soup.config.stage_file import StageFile


class DataFile(StageFile):
    """How many rows of each kind are generated."""

    kind: ClassVar[str] = "data"

    counts: dict[Text, Positive] = key(meaning="rows by the name of their file")
    seed: Whole = key(0, "seed of the generator")
