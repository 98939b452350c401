"""Preference pairs as one row of tokens: each prompt once, both answers behind it, several pairs a row.

    position      0  1  .. n-2    | n-1  n  ..  | ..
    token         p1 p2 .. p(n-1) | pn c1 c2 .. | pn r1 r2 ..
    position id   0  1  .. n-2    | n-1  n  ..  | n-1  n  ..
    branch        shared          | chosen      | rejected

A position is a place in the row, counted from 0; a position id is what the model's rotary embedding is given there.

The last prompt token stands once at the head of each answer, because it predicts the answer's first token: so every
position predicts at most one token. A position sees the shared positions of its own pair and the earlier ones of its
own branch (`apo/attention_mask.py`), which are the tokens it would see in a plain sequence, with the same position ids.
So hidden states and log-probabilities equal those of prompt + chosen and prompt + rejected computed alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SHARED_BRANCH, CHOSEN_BRANCH, REJECTED_BRANCH = 0, 1, 2


Ids = np.ndarray | Sequence[int]


class PairIds(NamedTuple):
    """The token ids of a pair, arrays as they come from a split. Every part has at least one."""

    prompt: Ids
    chosen: Ids
    rejected: Ids


@dataclass(frozen=True)
class PackedPairs:
    """A row: `S` positions, `C` scored tokens, `N` pairs; all tensors are integers.

    Attributes:
        input_ids: token ids `[S]`.
        position_ids: position ids `[S]`; they begin again at 0 with every pair.
        pair_index: the pair each position belongs to, `[S]`, from 0 to N - 1.
        branch: `[S]`, one of SHARED_BRANCH, CHOSEN_BRANCH, REJECTED_BRANCH.
        scored_positions: positions `[C]` that predict a token of an answer.
        targets: the tokens `[C]` predicted there.
        answer_index: the answer each of them belongs to, `[C]`: 2 * pair for the chosen one, 2 * pair + 1 for the
            other.
        pair_count: N.
    """

    input_ids: Tensor
    position_ids: Tensor
    pair_index: Tensor
    branch: Tensor
    scored_positions: Tensor
    targets: Tensor
    answer_index: Tensor
    pair_count: int

    def __len__(self) -> int:
        """S."""
        return len(self.input_ids)

    def to(self, device: torch.device | str) -> "PackedPairs":
        """The row on a device."""
        return self._each(lambda tensor: to_device(tensor, device))

    def pin_memory(self) -> "PackedPairs":
        """The row in pinned memory; a DataLoader calls it for `dataloader_pin_memory`."""
        return self._each(torch.Tensor.pin_memory)

    def answer_sums(self, values: Tensor) -> Tensor:
        """Sums `[N, 2]` over the tokens of the chosen and the rejected answers, from a value a scored token `[C]`."""
        return values.new_zeros(2 * self.pair_count).index_add(0, self.answer_index, values).view(-1, 2)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "PackedPairs":
        return PackedPairs(
            change(self.input_ids),
            change(self.position_ids),
            change(self.pair_index),
            change(self.branch),
            change(self.scored_positions),
            change(self.targets),
            change(self.answer_index),
            self.pair_count,
        )


def to_device(tensor: Tensor, device: torch.device | str) -> Tensor:
    """The tensor, of any shape, there. A pinned one is copied while the GPU works; any other would wait for the GPU."""
    return tensor.to(device, non_blocking=tensor.is_pinned())


def position_count(prompt: int, chosen: int, rejected: int) -> int:
    """How many positions a pair takes, from the numbers of tokens of its parts."""
    return prompt - 1 + (1 + chosen) + (1 + rejected)


def pack_pairs(pairs: Sequence[PairIds]) -> PackedPairs:
    """One row of these pairs, in their order."""
    ids: list[np.ndarray] = []
    position_ids: list[np.ndarray] = []
    pair_index: list[np.ndarray] = []
    branch: list[np.ndarray] = []
    scored_positions: list[np.ndarray] = []
    targets: list[np.ndarray] = []
    answer_index: list[np.ndarray] = []
    position = 0
    for number, pair in enumerate(pairs):
        prompt, chosen, rejected = (np.asarray(part, dtype=np.int64) for part in pair)
        shared = len(prompt) - 1
        ids.append(prompt[:-1])
        position_ids.append(np.arange(shared))
        branch.append(np.full(shared, SHARED_BRANCH))
        position += shared
        for side, (name, answer) in enumerate(((CHOSEN_BRANCH, chosen), (REJECTED_BRANCH, rejected))):
            ids += [prompt[-1:], answer]
            position_ids.append(np.arange(shared, shared + 1 + len(answer)))
            branch.append(np.full(1 + len(answer), name))
            scored_positions.append(np.arange(position, position + len(answer)))
            targets.append(answer)
            answer_index.append(np.full(len(answer), 2 * number + side))
            position += 1 + len(answer)
        pair_index.append(np.full(position_count(*map(len, pair)), number))
    return PackedPairs(
        _joined(ids),
        _joined(position_ids),
        _joined(pair_index),
        _joined(branch),
        _joined(scored_positions),
        _joined(targets),
        _joined(answer_index),
        pair_count=len(pairs),
    )


def _joined(arrays: list[np.ndarray]) -> Tensor:
    """Arrays `[N]` of several lengths, one behind the other, as one tensor `[sum of N]`."""
    return torch.from_numpy(np.concatenate(arrays))
