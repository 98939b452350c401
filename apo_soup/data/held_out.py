"""Which rows are held out: whole prompts, so that none is on both sides, and how near the two sides are."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from apo_soup.data.prompt_marks import NO_HASH, SKETCH, PromptMarks
from apo_soup.errors import UserError

# Prompts are nearly the same when they share this part of their runs of three words.
SIMILARITY = 0.7
# A run that more of the held-out prompts have is not looked up.
COMMON_RUN = 50


def split_off(
    rows: Sequence[int], size: float | None, seed: int, groups: Sequence[int] | None = None
) -> tuple[list[int], list[int]]:
    """Seeded train and test rows.

    Args:
        rows: numbers of the rows.
        size: how many rows go to test, or, below 1, which share of them, at least one; None for none.
        groups: for each number the group of its row, which is not parted. The size comes as near as groups allow: one
            is passed over where the size would be further off with it.
    """
    order = list(rows)
    random.Random(f"{seed} order").shuffle(order)
    if size is None:
        return order, []
    count = wanted(size, len(order))
    of_order = np.array(order if groups is None else [groups[row] for row in order], dtype=np.int64)
    _, numbers, sizes = np.unique(of_order, return_inverse=True, return_counts=True)
    # Rows that share their group with none, which are most, need no list.
    shared: dict[int, list[int]] = defaultdict(list)
    for place in np.flatnonzero(sizes[numbers] > 1).tolist():
        shared[int(numbers[place])].append(order[place])
    test: list[int] = []
    for row, number in zip(order, numbers.tolist(), strict=True):
        group = shared.pop(number, []) if sizes[number] > 1 else [row]
        if group and len(group) < 2 * (count - len(test)):
            test += group
        if len(test) >= count:
            break
    if not test:
        first = numbers[int(sizes[numbers].argmin())]
        test = [order[place] for place in np.flatnonzero(numbers == first).tolist()]
    held = set(test)
    return [row for row in order if row not in held], test


def wanted(size: float, count: int) -> int:
    """How many of `count` rows a test size asks for.

    >>> wanted(0.1, 25), wanted(0.001, 25), wanted(7, 25)
    (2, 1, 7)
    """
    return max(1, round(size * count)) if size < 1 else int(size)


def check_split(train: list[int], test: list[int], size: float, where: str) -> None:
    """Raise UserError where a test size leaves no row to train on."""
    if train:
        return
    rows = f"{len(test)} row{'' if len(test) == 1 else 's'}"
    if len(test) > 1 and wanted(size, len(test)) < len(test):
        got, cure = (
            f"{rows} with the same prompt, which is not parted",
            "add rows of other prompts, or leave the key out",
        )
    else:
        got, cure = f"{size:g} of {rows}", "take a smaller one, or leave the key out"
    raise UserError(f"{where}: expected a size that leaves a row to train on, got {got}; {cure}")


def near_prompts(marks: PromptMarks, train: list[int], test: list[int]) -> int:
    """How many test rows have nearly the same prompt as a training row.

    Runs of words that many test prompts have tell none of them apart, and are not looked up.
    """
    of_test = np.concatenate(list(marks.sketches(test)))
    holders: dict[int | bytes, list[int]] = defaultdict(list)
    for number, sketch in enumerate(of_test):
        for value in (*sketch[sketch != NO_HASH].tolist(), sketch.tobytes()):
            holders[value].append(number)
    hashes = np.array(sorted(value for value in holders if isinstance(value, int)), dtype=np.uint32)
    common = hashes[[len(holders[value]) > COMMON_RUN for value in hashes.tolist()]]
    near: set[int] = set()
    for block in marks.sketches(train):
        filled = block != NO_HASH
        known = np.isin(block, hashes) & filled
        passed_over = np.isin(block, common) & filled
        # Of a sketch that is as similar so many hashes are shared, and any of the common ones may be among them.
        needed = np.ceil(SIMILARITY * filled.sum(axis=1)).astype(int)
        for row in np.flatnonzero(known.sum(axis=1) >= needed).tolist():
            sketch = block[row]
            near.update(holders.pop(sketch.tobytes(), ()))
            looked_up = sketch[known[row] & ~passed_over[row]].tolist()
            shared = Counter(number for value in looked_up for number in holders[value])
            least = needed[row] - passed_over[row].sum()
            likely = {number for number, count in shared.items() if count >= least} - near
            near.update(number for number in likely if similarity(sketch, of_test[number]) >= SIMILARITY)
    return len(near)


def similarity(one: np.ndarray, two: np.ndarray) -> float:
    """The Jaccard similarity of two prompts' runs as their sketches `[SKETCH]` have it: exact where neither has more
    runs.
    """
    one, two = one[one != NO_HASH], two[two != NO_HASH]
    union = np.union1d(one, two)[:SKETCH]
    both = np.intersect1d(one, two, assume_unique=True)
    return float(np.isin(union, both, assume_unique=True).mean())


def held_out_counts(marks: PromptMarks, train: list[int], test: list[int], size: float) -> dict[str, Any]:
    """What the split came to: rows held out and asked for, their prompts, and those that are nearly trained on."""
    return {
        "rows": len(test),
        "asked": wanted(size, len(train) + len(test)),
        "prompts": len({marks.groups[row] for row in test}),
        "near_prompts": near_prompts(marks, train, test),
    }
