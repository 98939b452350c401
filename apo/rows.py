"""Pairs as rows of tokens: the prompt once, both answers behind it, several pairs a row.

    places     p1 p2 .. p(n-1) | pn c1 c2 .. | pn r1 r2 ..
    positions  0  1  .. n-2    | n-1 n  ..   | n-1 n  ..

The last prompt token stands once at the head of each answer, because it predicts the answer's first token: so every
place predicts at most one token. It sees the shared places and itself, as it does in the plain sequence, and has its
position, so its hidden state is the same. A place sees the shared places of its own pair and the earlier places of its
own branch. Hidden states, and so log-probabilities, equal those of prompt + chosen and prompt + rejected computed
alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from apo_soup.data.packing import best_fit_decreasing

Pair = tuple[Sequence[int], Sequence[int], Sequence[int]]
SHARED, CHOSEN, REJECTED = 0, 1, 2


@dataclass(frozen=True)
class Row:
    """Packed pairs as tensors. S places, C scored tokens, N pairs.

    `pair` and `branch` [S] say whose place it is, `order` [S] its place within its sequence. Token `targets[i]` [C] is
    predicted at place `places[i]` and belongs to answer `answers[i]`: 2 * pair for chosen, 2 * pair + 1 for rejected.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    pair: torch.Tensor
    branch: torch.Tensor
    places: torch.Tensor
    targets: torch.Tensor
    answers: torch.Tensor
    pairs: int

    def to(self, device: torch.device | str) -> "Row":
        return self._each(lambda tensor: moved(tensor, device))

    def pin_memory(self) -> "Row":
        """What a DataLoader calls for `dataloader_pin_memory`."""
        return self._each(torch.Tensor.pin_memory)

    def _each(self, change: Callable[[torch.Tensor], torch.Tensor]) -> "Row":
        return Row(**{n: change(v) if isinstance(v, torch.Tensor) else v for n, v in vars(self).items()})


def moved(tensor: torch.Tensor, device: torch.device | str) -> torch.Tensor:
    """The tensor there. A pinned one is copied while the GPU works; any other copy would wait for the GPU."""
    return tensor.to(device, non_blocking=tensor.is_pinned())


def places_of(prompt: int, chosen: int, rejected: int) -> int:
    """How many places a pair of these lengths takes."""
    return prompt - 1 + (1 + chosen) + (1 + rejected)


def build(pairs: Sequence[Pair]) -> Row:
    """One row of these pairs; every part of a pair has at least one token."""
    ids: list[int] = []
    positions: list[int] = []
    pair: list[int] = []
    branch: list[int] = []
    places: list[int] = []
    targets: list[int] = []
    answers: list[int] = []
    for number, (prompt, chosen, rejected) in enumerate(pairs):
        shared = len(prompt) - 1
        ids += prompt[:-1]
        positions += range(shared)
        branch += [SHARED] * shared
        for side, answer in ((CHOSEN, chosen), (REJECTED, rejected)):
            start = len(ids)
            ids += [prompt[-1], *answer]
            positions += range(shared, shared + 1 + len(answer))
            branch += [side] * (1 + len(answer))
            places += range(start, start + len(answer))
            targets += answer
            answers += [2 * number + side - CHOSEN] * len(answer)
        pair += [number] * (len(ids) - len(pair))
    tensors = [torch.tensor(v, dtype=torch.long) for v in (ids, positions, pair, branch, places, targets, answers)]
    return Row(*tensors, pairs=len(pairs))


def sees(row: Row, query: torch.Tensor, key: torch.Tensor) -> torch.Tensor:
    """Whether place `query` sees place `key`: shared ones of its pair and its own branch, none behind it."""
    same = row.pair[query] == row.pair[key]
    open_ = (row.branch[key] == SHARED) | (row.branch[query] == row.branch[key])
    return same & open_ & (query >= key)


def visible(row: Row) -> torch.Tensor:
    """What each place sees, `[S, S]`, row by query."""
    places = torch.arange(len(row.input_ids), device=row.input_ids.device)
    return sees(row, places[:, None], places[None, :])


def assign(lengths: Sequence[int], ranks: int) -> list[list[int]]:
    """Pairs of a step to ranks, balanced by places: the longest first, each to the rank with the least so far."""
    loads, chosen = [0] * ranks, [[] for _ in range(ranks)]
    for number in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        rank = min(range(ranks), key=lambda r: (loads[r], r))
        loads[rank] += lengths[number]
        chosen[rank].append(number)
    return [sorted(c) for c in chosen]


def plan(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Pairs to rows of at most `capacity` places; a pair that needs more has a row of its own."""
    bins = best_fit_decreasing([min(length, capacity) for length in lengths], capacity)
    return [sorted(found) for found in bins]
