"""Models of one architecture: equal configurations, tensors and shapes, in floating-point numbers."""

import re
from pathlib import Path

from apo_soup.errors import UserError
from apo_soup.models.config_difference import config_difference, other_settings, worded
from merge.model_tensors import check_equal_integers, check_plain, model_tensors
from merge.own_code import other_code

# Of the architecture, what depends on the number of layers; and where that number stands in the name of a tensor.
LAYERED = ("num_hidden_layers", "n_layer", "layer_types", "no_rope_layers", "mlp_only_layers")
LAYER_NUMBER = re.compile(r"\.\d+\.")


def check_alike(folders: list[Path], where: str, own_tokenizer: bool = False, sliced: bool = False) -> tuple[int, int]:
    """Refuse models that cannot be averaged; returns how many values the first one has, and the bytes of its largest.

    Args:
        own_tokenizer: the merge names its tokenizer, so vocabularies, and what has a row a token, may differ.
        sliced: the merge names its layers, so models may have different numbers of them.

    Raises:
        UserError: naming what differs, and in which folders.
    """
    first, *others = folders
    for folder in folders:
        check_plain(folder, where)
    check_equal_integers(folders, where)
    shapes = _shapes(first, where, own_tokenizer, sliced)
    aside = {*(LAYERED if sliced else ()), *(("vocab_size",) if own_tokenizer else ())}
    for folder in others:
        found = config_difference(first, folder, where, aside)
        if found:
            key, expected, got, way = found
            raise UserError(
                f"{where}: {folder}/config.json: {key}: expected {worded(expected)}, as in {first}/config.json, got "
                f"{worded(got)}; {way}"
            )
        others_shapes = _shapes(folder, where, own_tokenizer, sliced)
        for name in sorted(shapes.keys() ^ others_shapes.keys()):
            has, lacks = (first, folder) if name in shapes else (folder, first)
            raise UserError(
                f"{where}: {lacks}: expected tensor {name}, as in {has}, got none; merge models of one architecture"
            )
        for name, shape in shapes.items():
            if others_shapes[name] != shape:
                raise UserError(
                    f"{where}: {folder}: tensor {name}: expected shape {list(shape)}, as in {first}, got "
                    f"{list(others_shapes[name])}; merge models of one architecture"
                )
    stored = model_tensors(first, where).values()
    return sum(s.count for s in stored), max(s.dtype.itemsize for s in stored)


def _shapes(folder: Path, where: str, own_tokenizer: bool, sliced: bool) -> dict[str, tuple[int, ...]]:
    """Shapes by name; without rows where `own_tokenizer` says how many tokens there are, and by names without a layer's
    number where the merge is `sliced`.
    """
    shapes = {name: stored.shape for name, stored in model_tensors(folder, where).items()}
    if sliced:
        shapes = {LAYER_NUMBER.sub(".N.", name, count=1): shape for name, shape in shapes.items()}
    if own_tokenizer:
        shapes = {n: s[1:] if n.endswith(("embed_tokens.weight", "lm_head.weight")) else s for n, s in shapes.items()}
    return shapes


def merge_notes(first: Path, folders: list[Path], where: str) -> list[str]:
    """What a merge takes from the model `first` where another of its models says otherwise, a line each.

    Raises:
        UserError: a model's JSON file cannot be read, or is of another form.
    """
    lines = other_code(first, folders, where)
    for folder in (folder for folder in folders if folder != first):
        for key, taken, other in other_settings(first, folder, where):
            lines.append(f"{key} is {worded(taken)}, as in {first}, and {worded(other)} in {folder}")
    return lines
