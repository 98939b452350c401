"""What a training is given of prepared rows: the rows of the training split, with their copies."""

from pathlib import Path
from typing import Any

from datasets import Dataset
from pyarrow import compute

from apo_soup.data.documents import PAIR_COLUMNS
from apo_soup.data.stored_statistics import read_statistics


def trained_counts(folder: Path) -> dict[str, int]:
    """Rows, tokens and trained tokens of the training split in a folder of prepared rows: held-out rows are not among
    them, and a row of a weight above 1 is counted as often as it is taken.

    Raises:
        OtherFormError: the folder's counts cannot be read.
    """
    packed = read_statistics(folder)["packed"]
    if packed:
        return {"rows": packed["rows"], "tokens": packed["tokens"], "trained": packed["trained"]}
    pairs = Dataset.load_from_disk(str(folder / "train"))
    table: Any = pairs.with_format("arrow").select_columns(list(PAIR_COLUMNS))[:]
    prompt, *answers = (compute.sum(compute.list_value_length(table[name])).as_py() or 0 for name in PAIR_COLUMNS)
    return {"rows": len(pairs), "tokens": prompt + sum(answers), "trained": sum(answers)}
