"""How many bytes of tensors are alive while code runs, and the most there were, by torch's own dispatch.

Under `FakeTensorMode` tensors have shapes and no data, so that a step of a model of any size is counted in seconds, on
any machine.
"""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.utils.flop_counter import flop_registry

from apo_soup.private import results_seen

# glibc gives larger blocks back to the system when they are freed; smaller ones stay with the process (mallopt(3),
# DEFAULT_MMAP_THRESHOLD_MAX on 64 bits).
KEPT_BLOCK = 32 * 2**20


class LiveMemory:
    """Counts the storages of all tensors that are made inside of `counting`, each once, until they are freed.

    Attributes:
        now: bytes alive.
        peak: the most there were at once.
        apart: bytes alive of storages that `set_apart` was told of, such as weights and gradients.
        rest_peak: the most there were at once of all others.
        process_peak: the most that a process holds whose freed small blocks stay with it.
        operations: floating-point operations of the products that torch counts, attention on a CPU not among them.
    """

    def __init__(self) -> None:
        self.now = self.peak = self.apart = self.rest_peak = self.process_peak = self.operations = 0
        self._small = self._kept = 0
        self._sizes: weakref.WeakKeyDictionary[torch.UntypedStorage, int] = weakref.WeakKeyDictionary()
        self._apart: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is made inside."""
        with results_seen(self._see):
            yield

    def _see(
        self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any, tensors: list[torch.Tensor]
    ) -> None:
        counted = flop_registry.get(operation)
        if counted is not None:
            self.operations += counted(*args, **kwargs, out_val=result)
        for tensor in tensors:
            self._add(tensor.untyped_storage())

    def set_apart(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count these, of any shape `[...]`, no longer among the rest."""
        for tensor in tensors:
            storage = tensor.untyped_storage()
            if storage in self._sizes and storage not in self._apart:
                self._apart.add(storage)
                size = self._sizes[storage]
                self.apart += size
                weakref.finalize(storage, self._leave, size)

    def restart(self) -> None:
        """Begin `peak` and `rest_peak` anew with what is there; what a process keeps it keeps."""
        self.peak, self.rest_peak = self.now, self.now - self.apart

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage in self._sizes:
            return
        size = storage.nbytes()
        self._sizes[storage] = size
        self._count(size)
        weakref.finalize(storage, self._count, -size)

    def _count(self, size: int) -> None:
        self.now += size
        if abs(size) < KEPT_BLOCK:
            self._small += size
            self._kept = max(self._kept, self._small)
        self.peak = max(self.peak, self.now)
        self.rest_peak = max(self.rest_peak, self.now - self.apart)
        self.process_peak = max(self.process_peak, self._kept + self.now - self._small)

    def _leave(self, size: int) -> None:
        self.apart -= size
