"""Rows whose places several processes share, as DeepSpeed-Ulysses has it (arXiv 2309.14509).

Each process of a group holds a part of a row's places, and computes there all that looks at one place by itself:
embeddings, norms, MLPs, the LM head. Attention looks at many. Before it the processes exchange, so that each has all
places of its part of the heads, and behind it they exchange back; here two of them, with 8 places and 2 heads:

    places    0..3 | 4..7       0..7 | 0..7       0..3 | 4..7
    heads     0, 1 | 0, 1  ->   0    | 1     ->   0, 1 | 0, 1

So what keeps documents or pairs apart is that of the whole row, and any attention of transformers' registry may lie
beneath. Activations are divided by the number of processes. Weights are not: that is FSDP2's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface

from apo_soup.config.shared_rows import Unshared
from apo_soup.private import attention_implementation

# What an attention is given beside queries, keys and values that is of places, or of documents, and of no head.
WITHOUT_HEADS = {"position_ids", "cu_seq_lens_q", "cu_seq_lens_k", "seq_idx"}


class NotShared(Exception):
    """A training whose rows processes cannot share.

    Attributes:
        why: as its file is told.
    """

    def __init__(self, why: Unshared):
        super().__init__(why.expected)
        self.why = why


@dataclass(frozen=True)
class RowSharing:
    """Processes that share rows, as one of them sees it.

    Attributes:
        group: torch's group of them.
        size: how many they are, N.
        number: which of them this one is, from 0.
    """

    group: Any
    size: int
    number: int

    def summed(self, values: Tensor) -> Tensor:
        """Sums, over the processes, of values of any shape `[...]`. All of them compute one loss from the sums, which
        counts once: the gradient of the sums is that of each one's values.
        """
        total: Tensor = _Summed.apply(values, self.group)  # type: ignore[no-untyped-call]  # torch's
        return total


def sharing_of(size: int, timeout: timedelta) -> RowSharing | None:
    """The sharing of this process with the `size` - 1 beside it, which all processes ask for at once; None for 1."""
    if size == 1:
        return None
    group, _ = dist.new_subgroups(group_size=size, timeout=timeout)  # type: ignore[no-untyped-call]  # torch's
    return RowSharing(group, size, dist.get_rank() % size)


@dataclass
class SharedRow:
    """A row that processes share.

    Attributes:
        sharing: those processes.
        length: places of the row, S.
        attended: how often a layer's attention has exchanged them.
    """

    sharing: RowSharing
    length: int
    attended: int = 0

    @property
    def width(self) -> int:
        """Places that each process holds, s; behind the row's end they are filled up."""
        return -(-self.length // self.sharing.size)

    @property
    def _filled(self) -> int:
        return self.width * self.sharing.size - self.length

    def own(self, values: Tensor) -> Tensor:
        """This process's part `[1, s]` of numbers a place `[1, S]`; zeros fill it up.

        >>> SharedRow(RowSharing(None, 2, 1), 5).own(torch.tensor([[1, 2, 3, 4, 5]])).tolist()
        [[4, 5, 0]]
        """
        return F.pad(values, (0, self._filled)).chunk(self.sharing.size, 1)[self.sharing.number]

    def own_places(self, places: Tensor) -> tuple[Tensor, Tensor]:
        """Which of some places of the row `[C]` this process holds, booleans `[C]`, and where in its part `[c]`."""
        first = self.sharing.number * self.width
        own = (places >= first) & (places < first + self.width)
        return own, places[own] - first

    def all_places(self, tensor: Tensor) -> Tensor:
        """All places `[1, H / N, S, D]` of this process's heads, from all heads `[1, H, s, D]` of its places.

        Raises:
            ValueError: the number of heads is no multiple of that of processes.
        """
        size, heads = self.sharing.size, tensor.shape[1]
        if heads % size:
            raise ValueError(f"expected heads in a multiple of the {size} processes that share a row, got {heads}")
        parts = self._exchanged(torch.stack(tensor.chunk(size, 1)))
        return torch.cat(parts.unbind(), 2)[:, :, : self.length]

    def all_heads(self, tensor: Tensor) -> Tensor:
        """All heads `[1, s, H, D]` of this process's places, from all places `[1, S, H / N, D]` of its heads."""
        self.attended += 1
        filled = F.pad(tensor, (0, 0, 0, 0, 0, self._filled))
        parts = self._exchanged(torch.stack(filled.chunk(self.sharing.size, 1)))
        return torch.cat(parts.unbind(), 2)

    def _exchanged(self, parts: Tensor) -> Tensor:
        """What each of N processes has for this one, `[N, ...]`, from what this one has for each."""
        received: Tensor = _Exchanged.apply(parts, self.sharing.group)  # type: ignore[no-untyped-call]  # torch's
        return received

    def check_attended(self) -> None:
        """Check, behind a forward pass, that the model's attention was told of the row.

        Raises:
            ValueError: it was not, and each process attended to its own places alone.
        """
        if not self.attended:
            raise ValueError(
                "expected a model that hands what it is called with to its attention, got one that keeps it"
            )


class SharedAttention:
    """An attention of transformers' registry that takes `shared_row` for places that are a part of a row's. Without it,
    it is the attention beneath.
    """

    def __init__(self, beneath: Callable[..., Any]):
        self.beneath = beneath

    def __call__(
        self,
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Any,
        shared_row: SharedRow | None = None,
        **options: Any,
    ) -> Any:
        """Attention `[1, s, heads, D]` of queries, keys and values `[1, heads, s, D]`, over all places of the row.

        Args:
            module: the layer's attention.
            query: of this process's places.
            key: it may have fewer heads.
            value: as `key`.
            attention_mask: what the model was called with: that of the whole row.
            shared_row: see there.
            **options: what the model gives to its attention.

        Raises:
            ValueError: the heads cannot be divided.
        """
        if shared_row is None:
            return self.beneath(module, query, key, value, attention_mask, **options)
        of_heads = [name for name, given in options.items() if isinstance(given, Tensor) and name not in WITHOUT_HEADS]
        if of_heads:
            raise ValueError(f"expected an attention of queries, keys and values alone, got {', '.join(of_heads)} too")
        whole = (shared_row.all_places(tensor) for tensor in (query, key, value))
        attended, _ = self.beneath(module, *whole, attention_mask, **options)
        return shared_row.all_heads(attended), None


def share_attention(model: Any) -> None:
    """Let the attention that a model runs with, in its registry, be one that takes shared rows.

    Args:
        model: a model of transformers' whose attention is of the registry.
    """
    name = attention_implementation(model.config)
    beneath = AttentionInterface()[name]
    if not isinstance(beneath, SharedAttention):
        AttentionInterface.register(name, SharedAttention(beneath))


class _Exchanged(torch.autograd.Function):
    """Of N processes, each gives a part `[N, ...]` to each; gradients go back the same way."""

    @staticmethod
    def forward(ctx: Any, parts: Tensor, group: Any) -> Tensor:
        """Parts `[N, ...]` of all processes for this one."""
        ctx.group = group
        received = torch.empty_like(parts)
        dist.all_to_all_single(received, parts, group=group)
        return received

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Gradients `[N, ...]` of the parts that this process gave."""
        received = torch.empty_like(gradient, memory_format=torch.contiguous_format)
        dist.all_to_all_single(received, gradient.contiguous(), group=ctx.group)
        return received, None


class _Summed(torch.autograd.Function):
    """See `RowSharing.summed`."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, group: Any) -> Tensor:
        """Sums `[...]`."""
        total = values.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient as it is, `[...]`."""
        return gradient, None
