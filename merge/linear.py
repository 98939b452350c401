"""Linear averages without mergekit's start-up time and memory, bit for bit its result.

A plain linear merge of local models is a weighted sum, tensor by tensor. mergekit takes seconds to import and maps
every input; this reads, sums and writes in pieces of a few megabytes. Anything else in a merge file (another method,
slices, a weight by layer, a tokenizer to build, a model of the Hub, an adapter) goes to mergekit itself.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from apo_soup.errors import UserError
from apo_soup.progress import Progress
from merge.plan import Linear
from merge.tensors import NAMES, Stored, Writer, stored_tensors, ulp_error, weighted

# Elements of each input that are in memory at a time: few enough that the sums stay in the processor's cache.
PIECE = 2**18
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
AHEAD = 4
# torch turns float64 into a half type by way of float32, as mergekit does: 2^-24 of a value, 2^-14 units of float16.
BEYOND_HALF = 2**-13


def same_as_mergekit(merge: Linear, where: str) -> bool:
    """Whether the sum here is what mergekit writes: it promotes mixed types, refuses a model listed twice, leaves out
    whole numbers, and writes a tied head that only some of the models store.
    """
    inputs = [stored_tensors(f, where) for f in merge.folders]
    types = {s.dtype for found in inputs for s in found.values()}
    heads = {HEAD in found for found in inputs}
    alike = merge.dtype is not None or len(types) == 1
    return (
        len(set(merge.folders)) == len(inputs) and len(heads) == 1 and alike and all(t.is_floating_point for t in types)
    )


def run_linear(merge: Linear, folder: Path, where: str, name: str = "merge") -> int:
    """Write the average of the models into `folder`; returns the number of tensors.

    Raises:
        UserError: an input holds values that are not finite, or the result does not fit the type it is written in.
    """
    inputs = [stored_tensors(f, where) for f in merge.folders]
    names = [n for n in inputs[0] if all(n in found for found in inputs)]
    dtype = getattr(torch, merge.dtype) if merge.dtype else inputs[0][names[0]].dtype
    out = getattr(torch, merge.out_dtype) if merge.out_dtype else dtype
    writer = Writer(folder, {n: inputs[0][n].shape for n in names}, out)
    progress = Progress(name, "tensors", len(names))
    done = 0
    writing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1) as thread:
        for tensor, stored, read, last in read_ahead(names, inputs):
            values = weighted(read, merge.weights, merge.normalize, dtype).to(out)
            # A sum is finite only if all its terms are, and is much quicker to have than the answer for each of them.
            if not values.sum(dtype=torch.float32).isfinite() and not values.isfinite().all():
                raise UserError(not_finite(stored, read, tensor, where, out))
            writing.append(thread.submit(writer.write, tensor, values))
            if len(writing) > AHEAD:
                writing.popleft().result()
            done += last
            progress.at(done)
        while writing:
            writing.popleft().result()
    writer.close()
    progress.end()
    return len(names)


Piece = tuple[str, list[Stored], list[torch.Tensor], bool]


def read_ahead(names: list[str], inputs: list[dict[str, Stored]]) -> Iterator[Piece]:
    """Every piece of every tensor in order: its tensor's name, where that lies in each model, the values read, and
    whether it is the tensor's last. While one is summed, a thread reads the next.
    """

    def places() -> Iterator[tuple[str, list[Stored], int, int, bool]]:
        for name in names:
            stored = [found[name] for found in inputs]
            for begin, count in pieces(stored[0].count):
                yield name, stored, begin, count, begin + count == stored[0].count

    def read(name: str, stored: list[Stored], begin: int, count: int, last: bool) -> Piece:
        return name, stored, [s.read(begin, count) for s in stored], last

    with ThreadPoolExecutor(1) as reader:
        waiting: deque[Future[Piece]] = deque()
        for place in places():
            waiting.append(reader.submit(read, *place))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def not_finite(stored: list[Stored], read: list[torch.Tensor], tensor: str, where: str, out: torch.dtype) -> str:
    """Which input made a result that is not finite, in a sentence."""
    for entry, values in zip(stored, read, strict=True):
        if not values.isfinite().all():
            return f"{where}: tensor {tensor} of {entry.file} holds values that are not finite"
    return f"{where}: tensor {tensor} holds values too large for {NAMES[out]}; give out_dtype: float32 or bfloat16"


def pieces(count: int) -> list[tuple[int, int]]:
    """A tensor of `count` elements as (begin, count) of pieces."""
    return [(begin, min(PIECE, count - begin)) for begin in range(0, count, PIECE)]


def verify(merge: Linear, folder: Path, where: str, say: Callable[[str], None] = print) -> float:
    """Compare a written average with the float64 one; returns the largest distance in units in the last place.

    What the float64 average itself may be off by does not count: where terms cancel it is more than the last place of
    the little that is left.

    Raises:
        UserError: a tensor is missing, or further away than half a unit and the `BEYOND_HALF` of a second rounding.
    """
    inputs = [stored_tensors(f, where) for f in merge.folders]
    written = stored_tensors(folder, where)
    total = sum(merge.weights) if merge.normalize else 1.0
    worst, worst_name = 0.0, ""
    if HEAD in written:  # mergekit writes a tied head that some of the models store; the others' is the embedding
        for found in inputs:
            if EMBEDDING in found:
                found.setdefault(HEAD, found[EMBEDDING])
    names = [name for name in inputs[0] if all(name in found for found in inputs)]
    for name in [*(n for n in names if n not in written), *(n for n in written if n not in names)]:
        raise UserError(f"{where}: tensor {name} is not in {folder} and in all of the models it averages")
    for name, result in written.items():
        for begin, count in pieces(result.count):
            exact, largest = torch.zeros(2, count, dtype=torch.float64)
            for found, weight in zip(inputs, merge.weights, strict=True):
                term = weight * found[name].read(begin, count).double()
                exact += term
                largest += term.abs()
            values = result.read(begin, count)
            if not values.isfinite().all():
                raise UserError(f"{where}: tensor {name} of {folder} holds values that are not finite")
            slack = largest / abs(total) * len(inputs) * torch.finfo(torch.float64).eps
            error = ulp_error(values, exact / total, slack)
            if error > worst:
                worst, worst_name = error, name
    say(f"{folder}: {len(written)} tensors, at most {worst:.6f} units in the last place from the float64 average")
    if worst > 0.5 + BEYOND_HALF:
        raise UserError(
            f"{where}: tensor {worst_name} of {folder} is {worst:.3f} units in the last place from the float64 "
            "average; sum in float64 (dtype: float64) and write in another type (out_dtype) for one rounding"
        )
    return worst
