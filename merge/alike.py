"""Models of one architecture: equal configurations, tensors and shapes, in floating-point numbers."""

import re
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError
from apo_soup.stored_json import read_json
from merge.model_tensors import check_equal_integers, check_plain, model_tensors
from merge.own_code import other_code
from merge.rope import rope_difference

# Keys of config.json that change what equal weights compute; a key that only one model writes is a default of both.
ARCHITECTURE = (
    "architectures", "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "attention_bias", "mlp_bias", "layer_types",
    "no_rope_layers", "sliding_window", "tie_word_embeddings", "vocab_size", "n_head", "n_layer", "n_embd",
    "activation_function", "hidden_activation", "layer_norm_epsilon", "layer_norm_eps", "logits_scaling", "logit_scale",
    "residual_multiplier", "embedding_multiplier", "attention_multiplier", "attn_logit_softcapping",
    "final_logit_softcapping", "query_pre_attn_scalar", "num_experts", "num_local_experts", "num_experts_per_tok",
    "mlp_only_layers", "use_sliding_window",
)  # fmt: skip
# Keys that change no model that is merged and read, or are compared apart.
HARMLESS_BEGINS = (
    "_",
    "transformers_",
    "torch_",
    "dtype",
    "use_cache",
    "initializer_",
    "rope_",
    "output_",
    "pretraining_",
)
HARMLESS_ENDS = ("_token_id", "dropout", "_pdrop", "max_window_layers", "no_rope_layer_interval")
# Of these, what depends on the number of layers; and where that number stands in the name of a tensor.
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


def merge_notes(first: Path, folders: list[Path], where: str) -> list[str]:
    """What a merge takes from the model `first` where another of its models says otherwise, a line each.

    Raises:
        UserError: a model's JSON file cannot be read, or is of another form.
    """
    lines = other_code(first, folders, where)
    taken = read_json(first / "config.json", where)
    for folder in folders:
        other = read_json(folder / "config.json", where)
        for key in sorted((taken.keys() & other.keys()) - set(ARCHITECTURE)):
            said = key.startswith(HARMLESS_BEGINS) or key.endswith(HARMLESS_ENDS)
            if not said and isinstance(taken[key], (int, float, str)) and other[key] != taken[key]:
                lines.append(f"{key} is {taken[key]}, as in {first}, and {other[key]} in {folder}")
    return lines
