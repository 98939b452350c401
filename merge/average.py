"""A linear average in numbers: which folders, with which weights. No torch: `merge/linear.py` computes it."""

from dataclasses import dataclass
from pathlib import Path

from apo_soup.config.mergekit import MergekitKeys, MergekitParameters, plain_float

# The keys of mergekit's schema that a plain linear merge has.
LINEAR_KEYS = {"merge_method", "dtype", "out_dtype", "models", "parameters"}


@dataclass(frozen=True)
class LinearAverage:
    """The average sum(w_i * theta_i) / sum(w_i) over model folders i; without `normalize` it is not divided.

    SmolLM3's merge has the folders soup and mid with the weights 0.9 and 0.1. Sums are taken in `dtype` (None: the type
    of the inputs) and written in `out_dtype` (None: as `dtype`).
    """

    folders: tuple[Path, ...]
    weights: tuple[float, ...]
    normalize: bool
    dtype: str | None
    out_dtype: str | None


def plain_linear(config: MergekitKeys, absent: str | None = None) -> LinearAverage | None:
    """A mergekit configuration as a linear average of local models, or None where it asks for more than that.

    `absent` is a folder that need not be there, because one pass puts other models in its place.
    """
    if config.merge_method != "linear" or not config.model_fields_set <= LINEAR_KEYS:
        return None
    parameters = config.parameters or MergekitParameters()
    normalize = parameters.normalize if parameters.gives("normalize") else True
    if not parameters.model_fields_set <= {"normalize"} or not isinstance(normalize, bool):
        return None
    folders, weights = [], []
    for entry in config.models or []:
        own = entry.parameters or MergekitParameters()
        if not isinstance(entry.model, str) or own.model_fields_set != {"weight"}:
            return None
        if isinstance(own.weight, bool) or not isinstance(own.weight, (int, float)):
            return None
        folders.append(Path(entry.model))
        weights.append(float(own.weight))
    if not folders or not all(str(f) == absent or (f / "config.json").is_file() for f in folders):
        return None
    dtype, out_dtype = (plain_float(name) if name else None for name in (config.dtype, config.out_dtype))
    return LinearAverage(tuple(folders), tuple(weights), normalize, dtype, out_dtype)


def one_pass_average(outer: LinearAverage, soup: Path, inner: LinearAverage) -> LinearAverage:
    """`outer` with the model `soup` replaced by those that `inner` averages: soup and merge in one, rounded once.

    0.9 of the soup of members 1 and 2 and 0.1 of mid is 0.45 of each member and 0.1 of mid. A model that stands in both
    is summed once, with the sum of its weights.
    """
    parts: dict[Path, float] = {}
    whole = sum(inner.weights) if inner.normalize else 1.0
    for folder, weight in zip(outer.folders, outer.weights, strict=True):
        shares = {f: weight * w / whole for f, w in zip(inner.folders, inner.weights, strict=True)}
        for part, share in (shares if folder == soup else {folder: weight}).items():
            parts[part] = parts.get(part, 0.0) + share
    return LinearAverage(tuple(parts), tuple(parts.values()), outer.normalize, outer.dtype, outer.out_dtype)
