"""What must hold before anything is merged: whole folders, equal architecture, tensors, vocabulary and template."""

import math
from pathlib import Path

from apo_soup.config.mergekit import MergekitKeys, MergekitParameters, plain_float
from apo_soup.errors import UserError
from apo_soup.runs.model_files import first_non_finite
from apo_soup.runs.room import Room, require_room
from merge.adapter_checks import check_adapter
from merge.alike import check_alike
from merge.layers import check_layers_alike, output_layers
from merge.new_tokens import check_new_tokens
from merge.own_code import check_own_code
from merge.tensors import stored_tensors
from merge.token_checks import check_tokenizers

VOCABULARY_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}


def check_merge(config: MergekitKeys, models: list[Path], output: Path, where: str) -> None:
    """Refuse a merge that makes no sense.

    Raises:
        UserError: naming folder and tensor, before anything is written.
    """
    check_weights(config, where)
    folders = [m for m in models if (m / "config.json").is_file()]
    if not folders:
        return
    named = config.names_tokens
    check_own_code(base_folder(config, folders), where)
    if not named:
        check_new_tokens(folders, where)
    layers = output_layers(config, where)
    elements, itemsize = check_alike(folders, where, named, sliced=layers is not None)
    if layers:
        check_layers_alike(layers, where)
    if not named:
        check_tokenizers(folders, where, bool(config.chat_template))
        donor = base_folder(config, folders)
        if not any((donor / name).is_file() for name in VOCABULARY_FILES):
            raise UserError(
                f"{where}: {donor}: expected one of {', '.join(VOCABULARY_FILES)}, for the merged model takes its "
                "tokenizer from there, got none; put its files beside the weights, or name another model with "
                "tokenizer_source"
            )
    written = plain_float(config.out_dtype or config.dtype or "")
    require_room(merge_room(elements * ITEM_BYTES.get(written, itemsize)), output, where)
    check_finite(folders, where)


def base_folder(config: MergekitKeys, folders: list[Path]) -> Path:
    """The folder whose configuration and tokenizer a merge takes: of its base model, else of the first one."""
    return Path(config.base_model) if isinstance(config.base_model, str) and config.base_model else folders[0]


def check_weights(config: MergekitKeys, where: str) -> None:
    """The weights of a linear merge: finite, and of a sum that the method can work with.

    Raises:
        UserError: they are not.
    """
    if config.merge_method != "linear" or not config.models:
        return  # of slices or modules, or what mergekit refuses in its own words
    shared = config.parameters or MergekitParameters()
    usual = shared.weight if shared.gives("weight") else 1.0
    own = [entry.parameters or MergekitParameters() for entry in config.models]
    given = [parameters.weight if parameters.gives("weight") else usual for parameters in own]
    weights = [w for w in given if isinstance(w, (int, float))]
    if len(weights) < len(given):
        return  # by layer or by tensor: mergekit's to judge
    where, total = f"{where}.models: the weights", sum(weights)
    if not math.isfinite(total):
        raise UserError(f"{where}: expected finite numbers, got {weights}; correct them")
    if shared.normalize if shared.gives("normalize") else True:
        if abs(total) < 1e-6:
            raise UserError(
                f"{where}: expected a sum other than 0, by which normalize divides, got {weights}; correct them"
            )
    elif abs(total - 1) > 1e-6:
        raise UserError(
            f"{where}: expected a sum of 1 with normalize: false, for another scales the model, got {weights}, which "
            f"sum to {total:g}; let them sum to 1, or leave normalize out"
        )


def check_adapters(adapted: list[tuple[Path, Path]], output: Path, where: str) -> None:
    """Refuse adapters, each as (base, adapter), whose merged models would not fit on the disk or hold no numbers.

    They are whole models for as long as the merge takes, so this comes before the first of them is written.

    Raises:
        UserError: naming what is wrong.
    """
    bases = list(dict.fromkeys(base for base, _ in adapted))
    check_alike(bases, where)
    for base, adapter in adapted:
        check_adapter(base, adapter, where)
    size = {base: sum(s.count * s.dtype.itemsize for s in stored_tensors(base, where).values()) for base in bases}
    require_room(merge_room(sum(size[base] for base, _ in adapted)), output, where)
    check_finite([*bases, *(adapter for _, adapter in adapted)], where)


def check_finite(folders: list[Path], where: str) -> None:
    """Refuse weights that hold NaN or infinity.

    Raises:
        UserError: they do; it names file and tensor.
    """
    for folder in folders:
        bad = first_non_finite(folder)
        if bad:
            raise UserError(
                f"{where}: {bad[0]}: tensor {bad[1]}: expected finite values, got NaN or infinity; train or fetch this "
                "model again"
            )


def merge_room(size: int) -> Room:
    """The room of `size` bytes of weights, in the type that they are written in."""
    return Room(size, size, "the merge", "write a smaller out_dtype")
