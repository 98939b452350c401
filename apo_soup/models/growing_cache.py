"""A cache of keys and values whose rows come and go: it grows in place, and rows are taken out and put in.

transformers' own dynamic cache copies all of itself at every token: a third of the time of generation on CPU.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from apo_soup.models.positions import rope_by_length

# Room for further tokens that a full buffer gets: at least so many places, or this part of what is there.
LEAST_ROOM, ROOM_SHARE = 32, 0.25


class AllRead(Exception):
    """The last layer has its keys and values: of a text that is only looked back at, nothing more is needed."""


class GrowingLayer(DynamicLayer):
    """One layer's keys and values `[B, H, S, D]`: views of buffers that have room behind them."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # transformers'
        self._buffers: list[torch.Tensor] = []
        self.stops = False

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append the states `[B, H, new, D]` of new tokens; returns all keys and values, `[B, H, S, D]`.

        Raises:
            AllRead: these were the last states that are read of the layer.
        """
        length = self.get_seq_length()
        end = length + key_states.shape[-2]
        if not length:
            self.lazy_initialization(key_states, value_states)
            self._buffers = [_with_room(states, 0) for states in (key_states, value_states)]
        elif end > self._buffers[0].shape[-2]:
            self._buffers = [_with_room(states, end - length) for states in self.states()]
        for buffer, states in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[..., length:end, :] = states
        self.keys, self.values = (buffer[..., :end, :] for buffer in self._buffers)
        if self.stops:
            raise AllRead
        return self.states()

    def states(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values `[B, H, S, D]`; the layer has some."""
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def replace(self, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Hold other keys and values `[B, H, S, D]` in place of all that is here."""
        if not self.is_initialized:
            self.lazy_initialization(keys, values)
        self._buffers = [_with_room(states, LEAST_ROOM) for states in (keys, values)]
        self.keys, self.values = (buffer[..., : keys.shape[-2], :] for buffer in self._buffers)


def _with_room(states: torch.Tensor, more: int) -> torch.Tensor:
    """A buffer that begins with `states` `[B, H, S, D]`, with room for `more` tokens behind them, and some to spare."""
    *front, length, width = states.shape
    room = more + max(LEAST_ROOM, int(ROOM_SHARE * length))
    buffer = states.new_empty((*front, length + room, width))
    buffer[..., :length, :] = states
    return buffer


class GrowingCache(DynamicCache):
    """An empty cache of so many growing layers."""

    def __init__(self, layers: int):
        super().__init__()
        self.growing = [GrowingLayer() for _ in range(layers)]
        self.layers = [*self.growing]
        self.layer_class_to_replicate = None

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Inside, a forward pass ends where the last layer has its keys and values: neither that layer's attention nor
        the head is computed, and there are no logits.
        """
        self.growing[-1].stops = True
        try:
            yield
        except AllRead:
            pass
        finally:
            self.growing[-1].stops = False

    def keep_rows(self, rows: torch.Tensor, first: int) -> None:
        """Keep these rows `[N]` alone, in this order and as often as they are named, from position `first` on."""
        for layer in self.growing:
            keys, values = layer.states()
            layer.replace(keys[:, :, first:].index_select(0, rows), values[:, :, first:].index_select(0, rows))

    def join(self, other: "GrowingCache") -> None:
        """Put the rows of another cache behind those that are here; the shorter of both is filled up on the left."""
        length = max(self.get_seq_length(), other.get_seq_length())
        for layer, new in zip(self.growing, other.growing, strict=True):
            keys, values = (
                torch.cat([pad(states, (0, 0, length - states.shape[-2], 0)) for states in both])
                for both in zip(layer.states(), new.states(), strict=True)
            )
            layer.replace(keys, values)

    def repeated(self, times: int) -> "GrowingCache":
        """A cache with the one row that is here, so many times."""
        copy = GrowingCache(len(self.growing))
        for layer, new in zip(self.growing, copy.growing, strict=True):
            keys, values = layer.states()
            new.replace(keys.expand(times, -1, -1, -1), values.expand(times, -1, -1, -1))
        return copy


def growing_cache(model: PreTrainedModel) -> GrowingCache | None:
    """An empty cache for a model; None for one whose state is more than keys and values of all positions, such as
    sliding windows or a recurrence, and for one whose keys and values do not fit every place and company.
    """
    plain = DynamicCache(config=model.config).layers
    fits = plain and all(type(layer) is DynamicLayer for layer in plain) and not _depends_on_others(model)
    return GrowingCache(len(plain)) if fits else None


def _depends_on_others(model: PreTrainedModel) -> bool:
    """Whether a model places a token by its column, as some with ALiBi do, or turns its keys by the length of the
    longest text that is there, so that those of a text that grows would have to be made anew.
    """
    config = model.config.get_text_config()
    by_column = getattr(config, "alibi", False) or "position_ids" not in signature(model.forward).parameters
    return bool(by_column or rope_by_length(config))
