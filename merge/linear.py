"""The linear average of models, tensor by tensor: SmolLM3's soup, and its 0.9 / 0.1 merge.

    theta = sum_i w_i * theta_i / sum_i w_i        SmolLM3: 0.9 * soup + 0.1 * mid

`weighted_sum` is that equation; the rest of the file feeds it. This departs from mergekit's program and not from its
result, which is bit for bit the same: mergekit takes seconds to import and maps every input; this reads, sums and
writes in pieces of a few megabytes. Anything else in a merge file (another method, slices, a weight by layer, a
tokenizer to build, an adapter) goes to mergekit itself.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from apo_soup.errors import UserError
from apo_soup.progress import Progress
from merge.average import LinearAverage
from merge.model_tensors import model_tensors
from merge.tensors import StoredTensor, pieces
from merge.writer import DTYPE_NAMES, SafetensorsWriter

# Pieces that are summed before they are asked for, and that wait to be written.
PIECES_AHEAD = 4
# Memory is as fast as this many threads at most.
MOST_THREADS = 8


def weighted_sum(
    tensors: Sequence[torch.Tensor], weights: Sequence[float], normalize: bool, dtype: torch.dtype
) -> torch.Tensor:
    """The weighted sum [N] of flat tensors [N], divided by the sum of the weights if `normalize`, in `dtype`.

    The operations, their order and their precision are those of mergekit's linear method, so the bits are too: the
    inputs are cast to `dtype` first, and sums are float32, or float64 when `dtype` is.
    """
    inner = torch.float64 if dtype == torch.float64 else torch.float32
    coefficients = torch.tensor(list(weights), dtype=torch.float64).to(inner)
    total = torch.zeros(len(tensors[0]), dtype=inner)
    for tensor, coefficient in zip(tensors, coefficients, strict=True):
        total.addcmul_(tensor.to(dtype), coefficient)
    if normalize:
        total.div_(coefficients.sum())
    return total.to(dtype)


def same_as_mergekit(average: LinearAverage, where: str) -> bool:
    """Whether `write_average` gives what mergekit writes.

    mergekit promotes mixed types, refuses a model listed twice, and leaves out whole numbers.

    Raises:
        UserError: as `model_tensors` does.
    """
    inputs = [model_tensors(f, where) for f in average.folders]
    types = {stored.dtype for tensors in inputs for stored in tensors.values()}
    return (
        len(set(average.folders)) == len(inputs)
        and (average.dtype is not None or len(types) == 1)
        and all(t.is_floating_point for t in types)
    )


def write_average(average: LinearAverage, folder: Path, where: str, name: str = "merge") -> dict[str, str]:
    """Write the weights of the average into `folder`, progress under `name`; returns the SHA-256 of each file by name.
    All values in them are finite.

    Raises:
        UserError: an input holds values that are not finite, or the result does not fit the type it is written in.
    """
    inputs = [model_tensors(f, where) for f in average.folders]
    names = [n for n in inputs[0] if all(n in tensors for tensors in inputs)]
    dtype = getattr(torch, average.dtype) if average.dtype else inputs[0][names[0]].dtype
    out = getattr(torch, average.out_dtype) if average.out_dtype else dtype
    writer = SafetensorsWriter(folder, {n: inputs[0][n].shape for n in names}, out)
    progress = Progress(name, "tensors", len(names))

    def summed(piece: TensorPiece) -> torch.Tensor:  # of the piece's shape
        tensors = piece.read()
        values = weighted_sum(tensors, average.weights, average.normalize, dtype).to(out)
        # A sum is finite only if all its terms are, and is much quicker to have than the answer for each of them.
        if not values.sum(dtype=torch.float32).isfinite() and not values.isfinite().all():
            raise UserError(f"{where}: {_not_finite(piece, tensors, out)}")
        return values

    done = 0
    writing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for piece, values in _in_threads(summed, _pieces(names, inputs)):
            writing.append(thread.submit(writer.write, piece.name, values))
            if len(writing) > PIECES_AHEAD:
                writing.popleft().result()
            done += piece.last
            progress.at(done)
        while writing:
            writing.popleft().result()
    hashes = writer.close()
    progress.end()
    return hashes


@dataclass(frozen=True)
class TensorPiece:
    """`count` elements of a tensor, from element `begin` on, in every model; `stored` says where it lies in each."""

    name: str
    stored: list[StoredTensor]
    begin: int
    count: int

    @property
    def last(self) -> bool:
        """Whether the tensor ends with it."""
        return self.begin + self.count == self.stored[0].count

    def read(self) -> list[torch.Tensor]:
        """Its values in every model, [count] each; raises UserError where a file has become shorter."""
        return [entry.read(self.begin, self.count) for entry in self.stored]


def _pieces(names: list[str], inputs: list[dict[str, StoredTensor]]) -> Iterator[TensorPiece]:
    """Every piece of every tensor in order."""
    for name in names:
        stored = [tensors[name] for tensors in inputs]
        yield from (TensorPiece(name, stored, *piece) for piece in pieces(stored[0].count))


def _in_threads(
    work: Callable[[TensorPiece], torch.Tensor], items: Iterator[TensorPiece]
) -> Iterator[tuple[TensorPiece, torch.Tensor]]:
    """Every piece with what the work gives for it, in order. A piece is read and summed by one thread: the threads
    that torch would start for every operation on it cost more than they bring, and wait for each other on a busy
    machine.
    """
    count = min(MOST_THREADS, os.cpu_count() or 1)
    waiting: deque[tuple[TensorPiece, Future[torch.Tensor]]] = deque()
    with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as threads:
        for item in items:
            waiting.append((item, threads.submit(work, item)))
            if len(waiting) >= count + PIECES_AHEAD:
                piece, future = waiting.popleft()
                yield piece, future.result()
        for piece, future in waiting:
            yield piece, future.result()


def _not_finite(piece: TensorPiece, tensors: list[torch.Tensor], out: torch.dtype) -> str:
    """Which input made a result that is not finite, in a sentence; `tensors` [count] are the piece's values."""
    for entry, values in zip(piece.stored, tensors, strict=True):
        if not values.isfinite().all():
            return (
                f"{entry.file}: tensor {piece.name}: expected finite values, got NaN or infinity; train or fetch this "
                "model again"
            )
    return (
        f"out_dtype: expected a type that holds tensor {piece.name}, got {DTYPE_NAMES[out]}; write float32 or bfloat16"
    )
