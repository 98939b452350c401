"""The linear average of models, tensor by tensor: SmolLM3's soup, and its 0.9 / 0.1 merge.

    theta = sum_i w_i * theta_i / sum_i w_i        SmolLM3: 0.9 * soup + 0.1 * mid

`weighted_sum` is that equation; the rest of the file feeds it. This departs from mergekit's program and not from its
result, which is bit for bit the same: mergekit takes seconds to import and maps every input; this reads, sums and
writes in pieces of a few megabytes. Anything else in a merge file (another method, slices, a weight by layer, a
tokenizer to build, an adapter) goes to mergekit itself.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from apo_soup.errors import UserError
from apo_soup.progress import Progress
from merge.average import LinearAverage
from merge.model_tensors import has_several_parts, model_tensors
from merge.tensors import StoredTensor, pieces
from merge.writer import DTYPE_NAMES, SafetensorsWriter

# Pieces that are read, and that wait to be written, beside the one that is summed.
PIECES_AHEAD = 4


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

    mergekit promotes mixed types, refuses a model listed twice, leaves out whole numbers, and gives the parts of a
    model of several (its vision tower, say) the names that they have in memory.
    """
    inputs = [model_tensors(f, where) for f in average.folders]
    types = {stored.dtype for tensors in inputs for stored in tensors.values()}
    return (
        len(set(average.folders)) == len(inputs)
        and not has_several_parts(average.folders[0], where)
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
    done = 0
    writing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for piece in _read_ahead(names, inputs):
            values = weighted_sum(piece.values, average.weights, average.normalize, dtype).to(out)
            # A sum is finite only if all its terms are, and is much quicker to have than the answer for each of them.
            if not values.sum(dtype=torch.float32).isfinite() and not values.isfinite().all():
                raise UserError(f"{where}: {_not_finite(piece, out)}")
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
    """One piece of a tensor in every model: `values` [N] each, where it is stored, and whether it is the last one."""

    name: str
    stored: list[StoredTensor]
    values: list[torch.Tensor]
    last: bool


def _read_ahead(names: list[str], inputs: list[dict[str, StoredTensor]]) -> Iterator[TensorPiece]:
    """Every piece of every tensor in order. While one is summed, a thread reads the next."""

    def read(name: str, stored: list[StoredTensor], begin: int, count: int) -> TensorPiece:
        return TensorPiece(name, stored, [s.read(begin, count) for s in stored], begin + count == stored[0].count)

    with ThreadPoolExecutor(1) as reader:
        waiting: deque[Future[TensorPiece]] = deque()
        for name in names:
            stored = [tensors[name] for tensors in inputs]
            for begin, count in pieces(stored[0].count):
                waiting.append(reader.submit(read, name, stored, begin, count))
                if len(waiting) > PIECES_AHEAD:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _not_finite(piece: TensorPiece, out: torch.dtype) -> str:
    """Which input made a result that is not finite, in a sentence."""
    for entry, values in zip(piece.stored, piece.values, strict=True):
        if not values.isfinite().all():
            return (
                f"{entry.file}: tensor {piece.name}: expected finite values, got NaN or infinity; train or fetch this "
                "model again"
            )
    return (
        f"out_dtype: expected a type that holds tensor {piece.name}, got {DTYPE_NAMES[out]}; write float32 or bfloat16"
    )
