"""`--verify`: a written average beside the float64 one, in units in the last place."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from apo_soup.errors import UserError
from merge.average import LinearAverage
from merge.model_tensors import model_tensors
from merge.tensors import StoredTensor, pieces

Tensors = dict[str, StoredTensor]
# torch turns float64 into a half type by way of float32, as mergekit does: 2^-24 of a value, 2^-14 units of float16.
BEYOND_HALF = 2**-13
FLOAT32_STEP = torch.finfo(torch.float32).eps


def verify_average(average: LinearAverage, folder: Path, where: str, say: Callable[[str], None] = print) -> float:
    """Compare a written average with the float64 one; returns the largest distance in units in the last place.

    What the float64 average itself may be off by does not count: where terms cancel it is more than the last place of
    the little that is left.

    Raises:
        UserError: a tensor is missing, not finite, or further away than half a unit and the `BEYOND_HALF` of a second
            rounding.
    """
    inputs = [model_tensors(f, where) for f in average.folders]
    written = model_tensors(folder, where)
    _check_names(written, inputs, folder, where)
    worst, worst_name = 0.0, ""
    for name, result in written.items():
        distance = _tensor_distance(result, [tensors[name] for tensors in inputs], average)
        if distance is None:
            raise UserError(
                f"{where}: {folder}: tensor {name}: expected finite values, got NaN or infinity; remove the folder and "
                "merge again"
            )
        if distance.unexplained > 0.5 + BEYOND_HALF:
            raise UserError(
                f"{where}: {result.file}: tensor {name}: expected at most 0.5 units in the last place from the float64 "
                f"average, got {distance.units:.3f}, more than rounding explains: the file or a model was changed "
                "after the merge; remove the folder and merge again"
            )
        if distance.units > worst:
            worst, worst_name = distance.units, name
    say(f"{folder}: {len(written)} tensors, at most {worst:.6f} units in the last place from the float64 average")
    if worst > 0.5 + BEYOND_HALF:
        raise UserError(
            f"{where}: {folder}: tensor {worst_name}: expected at most 0.5 units in the last place from the float64 "
            f"average, got {worst:.3f}; sum in float64 (dtype: float64) and write in another type (out_dtype) for one "
            "rounding"
        )
    return worst


def _check_names(written: Tensors, inputs: list[Tensors], folder: Path, where: str) -> None:
    """Refuse a folder that lacks a tensor that all models have, or has one that they do not."""
    expected = [name for name in inputs[0] if all(name in tensors for tensors in inputs)]
    for name in expected:
        if name not in written:
            raise UserError(f"{where}: {folder}: expected tensor {name}, got none; remove the folder and merge again")
    for name in written:
        if name not in expected:
            raise UserError(
                f"{where}: {folder}: expected the tensors that all {len(inputs)} models have, got {name} too; remove "
                "the folder and merge again"
            )


@dataclass(frozen=True)
class Distance:
    """How far a written tensor is from the float64 average at most, in units in the last place, and how far beyond what
    the type that sums are taken in explains.
    """

    units: float
    unexplained: float


def _tensor_distance(result: StoredTensor, terms: list[StoredTensor], average: LinearAverage) -> Distance | None:
    """The largest distances of a written tensor; None where it holds a value that is not finite."""
    total = sum(average.weights) if average.normalize else 1.0
    dtype = getattr(torch, average.dtype) if average.dtype else terms[0].dtype
    # Inputs are cast to the type and the sum is cast back; in between, sums of anything but float64 are float32's.
    share = 0.0 if dtype == torch.float64 else 2 * torch.finfo(dtype).eps + (len(terms) + 1) * FLOAT32_STEP
    worst = unexplained = 0.0
    for begin, count in pieces(result.count):
        exact, magnitude = torch.zeros(2, count, dtype=torch.float64)
        for stored, weight in zip(terms, average.weights, strict=True):
            term = weight * stored.read(begin, count).double()
            exact += term
            magnitude += term.abs()
        values = result.read(begin, count)
        if not values.isfinite().all():
            return None
        slack = magnitude / abs(total) * len(terms) * torch.finfo(torch.float64).eps
        worst = max(worst, ulp_error(values, exact / total, slack))
        unexplained = max(unexplained, ulp_error(values, exact / total, slack + magnitude / abs(total) * share))
    return Distance(worst, unexplained)


def ulp_error(values: torch.Tensor, exact: torch.Tensor, slack: torch.Tensor | float = 0.0) -> float:
    """The largest distance of `values` [N] from the float64 `exact` [N], in units in the last place of their type.

    The unit is that of the exact value's binade, so correct rounding is never further than 0.5 away. `slack` [N] is
    what `exact` itself may be off by.
    """
    info = torch.finfo(values.dtype)
    exponent = torch.floor(torch.log2(exact.abs().clamp(min=info.smallest_normal)))
    unit = torch.exp2(exponent) * info.eps
    distance = ((values.double() - exact).abs() - slack).clamp(min=0)
    return (distance / unit).max().item() if len(values) else 0.0
