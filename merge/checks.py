"""What must hold before anything is merged: whole folders, equal architecture, tensors, vocabulary and template."""

from pathlib import Path

from apo_soup.config.mergekit import MergekitKeys, plain_float
from apo_soup.errors import UserError
from apo_soup.runs.model_files import first_non_finite
from apo_soup.runs.room import Room, require_room
from merge.adapter_checks import check_adapter
from merge.alike import check_alike
from merge.given_weights import check_weights
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
    elements, itemsize = check_models(config, folders, where)
    written = plain_float(config.out_dtype or config.dtype or "")
    require_room(merge_room(elements * ITEM_BYTES.get(written, itemsize)), output, where)
    check_finite(folders, where)


def check_models(config: MergekitKeys, folders: list[Path], where: str) -> tuple[int, int]:
    """Refuse models that cannot be merged, by their files and headers; returns the elements and the bytes of each, as
    `check_alike` does.

    Raises:
        UserError: naming folder and tensor.
    """
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
    return elements, itemsize


def base_folder(config: MergekitKeys, folders: list[Path]) -> Path:
    """The folder whose configuration and tokenizer a merge takes: of its base model, else of the first one."""
    return Path(config.base_model) if isinstance(config.base_model, str) and config.base_model else folders[0]


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
