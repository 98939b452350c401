"""Which layers an adapter names, and whether a model's weights can be trained, without torch."""

import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

from apo_soup.config.adapter_keys import ALL_LINEAR, lora_targets
from apo_soup.config.in_words import as_written
from apo_soup.config.nearest import nearest
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.weights import read_header, weight_files

SHOWN_LAYERS = 8
# The one sort of few bits that transformers turns into plain numbers by itself where its kernels are not there.
_UNPACKED = "mxfp4"


def require_layers(recipe: TrainingFile, model: str, modules: Collection[str], parameters: Collection[str]) -> None:
    """Look for every layer that a recipe's adapter names.

    Args:
        model: its name.
        modules: the paths of the model's layers, `parameters` those of its parameters.

    Raises:
        UserError: the model has no such layer, or none that a pattern matches.
    """
    targets = lora_targets(recipe)
    if isinstance(targets, str) and targets != ALL_LINEAR and not any(re.fullmatch(targets, m) for m in modules):
        way = f"name layers such as {', '.join(_short(modules)[:SHOWN_LAYERS])}"
        raise UserError(
            f"{recipe.place('lora_target_modules')}: expected a pattern of whole paths of {model}'s layers, got "
            f"{as_written(targets)}, which matches none; {way}"
        )
    for key, named, known in (
        ("lora_target_modules", targets if isinstance(targets, list) else [], modules),
        ("lora_modules_to_save", recipe.lora_modules_to_save, modules),
        ("lora_target_parameters", recipe.lora_target_parameters, parameters),
    ):
        for number, name in enumerate(named or []):
            if not any(f".{place}".endswith(f".{name}") for place in known):
                short = _short(known)
                way = nearest(name, short) or f"name layers such as {', '.join(short[:SHOWN_LAYERS])}"
                where = recipe.place(f"{key}.{number}")
                raise UserError(f"{where}: expected a layer of {model}, got {name}, which it has not; {way}")


def _short(places: Iterable[str]) -> list[str]:
    """The last words of paths, in order, without numbers."""
    return sorted(word for word in {place.rpartition(".")[2] for place in places} if word and not word.isdecimal())


def stores_layers(recipe: TrainingFile, folder: Path) -> bool:
    """Whether the headers of a folder's weights hold every layer that a recipe's adapter names; true without weights.
    Where they do not, a model may still have it: transformers loads some under other names, and ties some.

    Raises:
        UserError: a header cannot be read.
    """
    files = [file for file in weight_files(folder) if file.is_file() and file.suffix == ".safetensors"]
    if not files:
        return True
    parameters = {name for file in files for name in read_header(file, recipe.place("model_name_or_path"))}
    parameters.add("lm_head.weight")  # not stored where it is tied
    try:
        require_layers(recipe, str(folder), {path for name in parameters for path in _parents(name)}, parameters)
    except UserError:
        return False
    return True


def _parents(name: str) -> Iterator[str]:
    while "." in name:
        name = name.rpartition(".")[0]
        yield name


def require_trainable_bits(recipe: TrainingFile, model: str, settings: Any) -> None:
    """Refuse a base that is stored in few bits, but for those of bitsandbytes below an adapter.

    Args:
        model: its name.
        settings: the `quantization_config` of its configuration; None where it has none.

    Raises:
        UserError: it is.
    """
    method = settings.get("quant_method") if isinstance(settings, dict) else getattr(settings, "quant_method", None)
    method = getattr(method, "value", method)
    if not settings or (recipe.use_peft and method == "bitsandbytes"):
        return
    place = recipe.place("model_name_or_path")
    if recipe.use_peft:
        raise UserError(
            f"{place}: expected a base of plain numbers, or of bitsandbytes' bits, got {model} in {method}, into which "
            "no adapter can be merged; name the model that it was made from, with load_in_4bit: true"
        )
    if method != _UNPACKED and "quantization_config" not in recipe.loading_arguments:
        raise UserError(
            f"{place}: expected a base of plain numbers, since all weights are trained, got {model} in {method}; name "
            "the model that it was made from"
        )
