"""The longest of a training's prepared rows, as prepared rows of their own, for a measurement of the most memory."""

import shutil
from pathlib import Path

import numpy as np
from datasets import DatasetDict, load_from_disk

from apo.prepared_pairs import PreparedPairs
from apo_soup.data.prepare import write_content_hashes
from apo_soup.plan.row_counts import computed_places


def write_longest_rows(folder: Path, into: Path, count: int, pairs: bool) -> None:
    """Copy a prepared folder with the `count` rows alone of which most is computed, or with all where it has fewer."""
    splits = load_from_disk(str(folder))
    assert isinstance(splits, DatasetDict)
    train = splits["train"]
    sizes = np.array(PreparedPairs(train).lengths()) if pairs else computed_places(train)
    longest = np.sort(np.argsort(-sizes, kind="stable")[:count])
    shutil.copytree(folder, into, ignore=shutil.ignore_patterns("train", "test"))
    DatasetDict({**splits, "train": train.select(longest)}).save_to_disk(str(into))
    write_content_hashes(into)
