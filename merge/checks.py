"""What must hold before anything is merged: whole folders, equal architecture, tensors, vocabulary and template."""

import math
import re
import shutil
from pathlib import Path
from typing import Any

from apo_soup.config.mergekit import MergekitKeys, MergekitParameters, plain_float
from apo_soup.errors import UserError, read_json
from apo_soup.runs.model_files import first_non_finite
from merge.adapter_checks import check_adapter
from merge.layers import check_layers_alike, output_layers
from merge.model_tensors import check_equal_integers, check_plain, model_tensors
from merge.new_tokens import check_new_tokens
from merge.own_code import check_own_code, other_code
from merge.rope import rope_difference
from merge.tensors import stored_tensors

VOCABULARY_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json")
ITEM_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2}
# Keys of config.json that change what equal weights compute; a key that only one model writes is a default of both.
ARCHITECTURE = (
    "architectures", "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "attention_bias", "mlp_bias", "layer_types",
    "no_rope_layers", "sliding_window", "tie_word_embeddings", "vocab_size",
)  # fmt: skip
# Of these, what depends on the number of layers; and where that number stands in the name of a tensor.
LAYERED = ("num_hidden_layers", "layer_types", "no_rope_layers")
LAYER_NUMBER = re.compile(r"\.\d+\.")


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
    check_disk(elements * ITEM_BYTES.get(written, itemsize), output, where)
    check_finite(folders, where)


def merge_notes(first: Path, folders: list[Path], where: str) -> list[str]:
    """What a merge takes from the model `first` where another of its models says otherwise, a line each."""
    lines = other_code(first, folders, where)
    limit = read_json(first / "config.json", where).get("max_position_embeddings")
    for folder in folders:
        other = read_json(folder / "config.json", where).get("max_position_embeddings")
        if other != limit:
            lines.append(f"max_position_embeddings is {limit}, as in {first}, and {other} in {folder}")
    return lines


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
    shapes, architecture = _shapes(first, where, own_tokenizer, sliced), _architecture(first, where)
    for key in LAYERED if sliced else ():
        architecture.pop(key)
    for folder in others:
        other = _architecture(folder, where)
        for key, value in architecture.items():
            both = value is not None and other[key] is not None
            if both and other[key] != value and not (own_tokenizer and key == "vocab_size"):
                cure = "resize both alike, or name the result's tokens with mergekit's key tokenizer_source"
                raise UserError(
                    f"{where}: {folder}/config.json: {key}: expected {value}, as in {first}/config.json, got "
                    f"{other[key]}; {cure if key == 'vocab_size' else 'merge models of one architecture'}"
                )
        rope = rope_difference(read_json(first / "config.json", where), read_json(folder / "config.json", where))
        if rope:
            raise UserError(
                f"{where}: {folder}/config.json: {rope[0]}: expected {_worded(rope[1])}, as in {first}/config.json, "
                f"got {_worded(rope[2])}; merge models of one rope, and scale the result with long_context"
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


def _architecture(folder: Path, where: str) -> dict[str, Any]:
    """What decides the function that the weights compute, beside their shapes."""
    config = read_json(folder / "config.json", where)
    return {key: config.get(key) for key in ARCHITECTURE}


def _worded(value: Any) -> str:
    return "none" if value is None else str(value)


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


def check_tokenizers(folders: list[Path], where: str, own_template: bool = False) -> None:
    """Refuse models whose tokens or, without `own_template`, chat templates differ, where both say what theirs are.

    Raises:
        UserError: naming what differs, in which folders, and the key that says which is meant.
    """
    for read, what, key in (
        (_tokens, "tokens", "tokenizer_source"),
        (_end_of_turn, "end-of-turn token", "tokenizer_source"),
        (_template, "chat template", "chat_template"),
    ):
        if own_template and key == "chat_template":
            continue
        known = [(folder, value) for folder in folders if (value := read(folder, where)) is not None]
        for folder, value in known[1:]:
            if value != known[0][1]:
                raise UserError(
                    f"{where}: {folder}: {what}: expected that of {known[0][0]}, got another; take models of one "
                    f"family, or say which is meant with mergekit's key {key}"
                )


def _tokens(folder: Path, where: str) -> Any:
    """Vocabulary and added tokens of `tokenizer.json`; None without that file."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    tokenizer = read_json(file, where)
    return tokenizer.get("model", {}).get("vocab"), [(t["id"], t["content"]) for t in tokenizer.get("added_tokens", [])]


def _end_of_turn(folder: Path, where: str) -> Any:
    """The text of the end-of-turn token; None where the folder does not say."""
    settings = folder / "tokenizer_config.json"
    end = read_json(settings, where).get("eos_token") if settings.is_file() else None
    return end.get("content") if isinstance(end, dict) else end


def _template(folder: Path, where: str) -> str | None:
    """The text of the chat template; None where the folder has none."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8").strip()
    settings = folder / "tokenizer_config.json"
    template = read_json(settings, where).get("chat_template") if settings.is_file() else None
    return template.strip() if isinstance(template, str) else None


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
    check_disk(sum(size[base] for base, _ in adapted), output, where)
    check_finite([*bases, *(adapter for _, adapter in adapted)], where)


def check_finite(folders: list[Path], where: str) -> None:
    """Refuse weights that hold NaN or infinity; raises UserError naming file and tensor."""
    for folder in folders:
        bad = first_non_finite(folder)
        if bad:
            raise UserError(
                f"{where}: {bad[0]}: tensor {bad[1]}: expected finite values, got NaN or infinity; train or fetch this "
                "model again"
            )


def check_disk(size: int, output: Path, where: str) -> None:
    """Refuse where `size` bytes, the result in the type it is written in, would not fit; raises UserError."""
    place = output
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    if free < size:
        raise UserError(
            f"{where}: {place}: expected about {size / 1e9:.1f} GB free for the merge, got {free / 1e9:.1f} GB; free "
            "some, or write a smaller out_dtype"
        )
