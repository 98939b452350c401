"""The tensors of a model as a merge takes them: floating-point numbers that were trained, and a tied head only once.

A checkpoint whose configuration ties the head to the embeddings may store both. Averaged apart they would be two
different tensors wherever a method draws at random, or where another parent stores one alone; so a copy is left out.
A head that is stored with other values is no copy, and transformers would not tie it: nobody can guess which is meant.
"""

from pathlib import Path
from typing import Any

import torch

from apo_soup.errors import UserError
from apo_soup.stored_json import read_json
from merge.tensors import StoredTensor, pieces, stored_tensors

HEADS = ("lm_head.weight", "embed_out.weight")
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
# Buffers that older releases of transformers stored, and models work out for themselves: positions, and masks of four
# dimensions.
POSITIONS = "rotary_emb.inv_freq"
MASKS = (".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias")
# Keys of config.json under which programs say how they quantised a model's weights.
QUANTISED = ("quantization_config", "compression_config", "quantization")


def model_tensors(folder: Path, where: str) -> dict[str, StoredTensor]:
    """Every tensor of a model folder by name, without the copy that a tied head is, and without buffers that the model
    works out for itself.

    Raises:
        UserError: as `stored_tensors`, or the head is tied and stored with values of its own.
    """
    tensors = {name: t for name, t in stored_tensors(folder, where).items() if not _is_worked_out(name, t)}
    pair = _head_and_embedding(tensors)
    if pair is None or not ties_head(folder, where):
        return tensors
    head, embedding = pair
    if not _equal(tensors[head], tensors[embedding]):
        raise UserError(
            f"{where}: {tensors[head].file}: tensor {head}: expected the values of {embedding}, to which "
            f"{folder}/config.json ties it, got others; write tie_word_embeddings: false there if it is a head of its "
            "own, else leave the tensor out"
        )
    return {name: stored for name, stored in tensors.items() if name != head}


def _is_worked_out(name: str, stored: StoredTensor) -> bool:
    """Whether a tensor is a buffer that a model makes anew when it is loaded."""
    return name.endswith(POSITIONS) or (name.endswith(MASKS) and len(stored.shape) in (0, 4))


def has_several_parts(folder: Path, where: str) -> bool:
    """Whether a model has parts beside its language model, such as a vision tower.

    Raises:
        UserError: its configuration cannot be read, or is of another form.
    """
    return "text_config" in read_json(folder / "config.json", where)


def check_plain(folder: Path, where: str) -> None:
    """Refuse a model whose tensors are codes of quantised weights, which have no average.

    Raises:
        UserError: naming the key of config.json, or the tensor and its file.
    """
    config = read_json(folder / "config.json", where)
    for key in QUANTISED:
        quantised = config.get(key)
        if quantised:
            kind = quantised.get("quant_method", quantised) if isinstance(quantised, dict) else quantised
            raise UserError(
                f"{where}: {folder}/config.json: {key}: expected weights that are not quantised, got {kind}; "
                "dequantise the model (in transformers, model.dequantize()) and save it first"
            )
    for name, stored in stored_tensors(folder, where).items():
        if not stored.dtype.is_floating_point and name.endswith(".weight"):
            raise UserError(
                f"{where}: {stored.file}: tensor {name}: expected floating-point numbers, got "
                f"{str(stored.dtype).removeprefix('torch.')}, which are codes of quantised weights; dequantise the "
                "model and save it first"
            )


def check_equal_integers(folders: list[Path], where: str) -> None:
    """Refuse whole numbers (masks, positions, codes) that differ between models: they have no average.

    Raises:
        UserError: naming tensor and file.
    """
    first, *others = (stored_tensors(folder, where) for folder in folders)
    for name, stored in first.items():
        if stored.dtype.is_floating_point:
            continue
        for tensors in others:
            other = tensors.get(name)
            if other is not None and (other.shape != stored.shape or not _equal(other, stored)):
                raise UserError(
                    f"{where}: {other.file}: tensor {name}: expected the whole numbers of {stored.file}, got others, "
                    "which cannot be averaged; dequantise the models, or leave the tensor out"
                )


def _head_and_embedding(tensors: dict[str, StoredTensor]) -> tuple[str, str] | None:
    """The names of a stored head and of the only embeddings of its shape; None without either."""
    heads = [name for name in tensors if name.endswith(HEADS)]
    found = [
        name
        for name in tensors
        if name.endswith(EMBEDDINGS) and heads and tensors[name].shape == tensors[heads[0]].shape
    ]
    return (heads[0], found[0]) if len(heads) == len(found) == 1 else None


def ties_head(folder: Path, where: str) -> bool:
    """Whether a model's configuration ties its head to the embeddings; asks transformers where it does not say.

    Raises:
        UserError: its configuration cannot be read, or is of another form.
    """
    config: dict[str, Any] = read_json(folder / "config.json", where)
    inner = config.get("text_config") or {}
    said = config.get("tie_word_embeddings", inner.get("tie_word_embeddings"))
    if said is not None:
        return bool(said)
    from transformers import CONFIG_MAPPING

    kind = str(config.get("model_type"))
    return kind in CONFIG_MAPPING and bool(getattr(CONFIG_MAPPING[kind](), "tie_word_embeddings", False))


def _equal(one: StoredTensor, other: StoredTensor) -> bool:
    """Whether two tensors of one shape hold the same type and values."""
    if one.dtype != other.dtype:
        return False
    return all(torch.equal(one.read(*piece), other.read(*piece)) for piece in pieces(one.count))
