"""Adapters that were trained on another base: peft leaves out what finds no place, without a word."""

import re
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError
from apo_soup.runs.sources import adapter_base_name, adapter_settings
from merge.model_tensors import EMBEDDINGS
from merge.tensors import StoredTensor, stored_tensors

LAYER = re.compile(r"\.(\d+)\.")
# Adapters that change what a model reads, or add layers, and no weight that it has.
_PROMPTS = (
    "PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING", "ADAPTION_PROMPT", "CPT", "CARTRIDGE",
)  # fmt: skip
_PREFIX = "base_model.model."
_FACTOR = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])\.weight$")


def check_adapter(base: Path, adapter: Path, where: str) -> None:
    """Refuse an adapter whose layers or widths are not those of the base, from the headers of both.

    Raises:
        UserError: naming tensor and file.
    """
    settings = adapter_settings(adapter, where)
    if settings.get("peft_type") in _PROMPTS:
        raise UserError(
            f"{where}: {adapter}/adapter_config.json: peft_type: expected an adapter of weights, such as LORA, got "
            f"{settings['peft_type']}, which no weights can hold; leave it out"
        )
    factors, weights = stored_tensors(adapter, where), stored_tensors(base, where)
    depth, last = _last_layer(weights), _last_layer(factors)
    if depth is not None and last is not None:
        name, layer = last
        if layer > depth[1]:
            raise UserError(
                f"{where}: {factors[name].file}: tensor {name}: expected a layer of the base {base}, which has "
                f"{depth[1] + 1}, got layer {layer} of another base; name the model that the adapter was trained on"
            )
        if layer < depth[1] and _adapts_all_layers(settings):
            raise UserError(
                f"{where}: {factors[name].file}: expected tensors for all {depth[1] + 1} layers of the base {base}, "
                f"got {layer + 1}, of another base; name the model that the adapter was trained on"
            )
    for name, factor in factors.items():
        _check_width(name, factor, weights, base, where)


def trained_on(adapter: Path, where: str) -> Path | None:
    """The folder that an adapter names as its base, if it is there; one that was moved, or fetched, says nothing.

    Raises:
        UserError: `adapter_config.json` cannot be read, or is of another form.
    """
    named = adapter_base_name(adapter, where)
    return Path(named) if named and Path(named).is_dir() else None


def own_rows(adapter: Path, where: str) -> int | None:
    """The rows of whole embeddings that an adapter holds, which was trained with tokens that its base has not; None
    where it holds none.

    Raises:
        UserError: its weights cannot be read.
    """
    stored = stored_tensors(adapter, where).items()
    return next((tensor.shape[0] for name, tensor in stored if name.endswith(EMBEDDINGS)), None)


def _last_layer(tensors: dict[str, StoredTensor]) -> tuple[str, int] | None:
    """The tensor of the highest layer, and its number counted from 0; None without layers."""
    found = [(int(match[1]), name) for name in tensors if (match := LAYER.search(name))]
    return (max(found)[1], max(found)[0]) if found else None


def _adapts_all_layers(settings: dict[str, Any]) -> bool:
    """Whether an adapter's configuration chooses modules by name alone, and so the same ones in every layer."""
    targets = settings.get("target_modules")
    chosen = settings.get("layers_to_transform") is not None or settings.get("exclude_modules")
    return isinstance(targets, list) and not chosen and not any("." in target for target in targets)


def _check_width(name: str, factor: StoredTensor, weights: dict[str, StoredTensor], base: Path, where: str) -> None:
    """Refuse a factor A [rank, in] or B [out, rank] of LoRA that does not fit the weight [out, in] that it adapts, or
    [in, out] as GPT-2 has it.
    """
    found = _FACTOR.match(name.removeprefix(_PREFIX))
    weight = weights.get(f"{found['module']}.weight") if found else None
    if found is None or weight is None or len(weight.shape) != 2 or len(factor.shape) != 2:
        return
    width = factor.shape[1] if found["side"] == "A" else factor.shape[0]
    if width not in weight.shape:
        raise UserError(
            f"{where}: {factor.file}: tensor {name}: expected a width of {found['module']} in the base {base}, "
            f"{' or '.join(map(str, weight.shape))}, got {width}; name the model that the adapter was trained on"
        )


def check_all_loaded(model: Any, adapter: Path, where: str) -> None:
    """Refuse where peft has left out tensors of an adapter, or made some anew that the adapter has not.

    Args:
        model: peft's model with the adapter in it.

    Raises:
        UserError: naming tensor and file.
    """
    from peft import get_peft_model_state_dict

    stored = stored_tensors(adapter, where)
    held = {name for name in get_peft_model_state_dict(model, save_embedding_layers=False) if ".lora_" in name}
    saved = {name for name in stored if ".lora_" in name}
    for name in sorted(held ^ saved):
        file = next(iter(stored.values())).file
        got = "none in the base" if name in saved else "none there"
        raise UserError(
            f"{where}: {file}: tensor {name}: expected it both in the adapter and as a place in the base, got {got}; "
            "name the model that the adapter was trained on"
        )
