"""The names in a mergekit configuration: models, which may be stages of the run, and types of weights."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from apo_soup.config.merge import MergeFile
from apo_soup.config.mergekit import MergekitKeys
from apo_soup.config.nearest import nearest
from apo_soup.config.places import places_looked_at, settled
from apo_soup.config.recipe_file import shared_keys
from apo_soup.errors import UserError
from apo_soup.runs.sources import HUB_ID
from merge.members import adapter_base

# Keys under which mergekit's schema names a model; those of them, and the words, that say whose tokenizer is taken.
MODEL_KEYS = ("model", "base_model", "tokenizer_source", "source")
_TOKENIZER_KEYS = ("tokenizer_source", "source")
TOKENIZER_WORDS = ("union", "base")
STAGE_NAMES = ("base", "extend", "mid", "sft", "soup", "merged")


def with_models(config: MergekitKeys, change: Callable[[str], str]) -> MergekitKeys:
    """A mergekit configuration with every model that it names changed."""
    return MergekitKeys.model_validate(_with_models(config.given_values(), change))


def _with_models(node: Any, change: Callable[[str], str]) -> Any:
    if isinstance(node, dict):
        return {k: change(v) if _names_model(k, v) else _with_models(v, change) for k, v in node.items()}
    return [_with_models(v, change) for v in node] if isinstance(node, list) else node


def with_names_as_text(config: MergekitKeys, where: str) -> MergekitKeys:
    """A mergekit configuration in which models that are written as mappings are `model@revision+adapter@revision`.

    Raises:
        UserError: a mapping says more than that.
    """
    return MergekitKeys.model_validate(_with_text(config.given_values(), where))


def _with_text(node: Any, where: str) -> Any:
    if isinstance(node, dict):
        return {
            k: _model_text(v, f"{where}.{k}") if _is_mapping(k, v) else _with_text(v, f"{where}.{k}")
            for k, v in node.items()
        }
    if isinstance(node, list):
        return [_with_text(value, f"{where}.{number}") for number, value in enumerate(node)]
    return node


def _is_mapping(key: str, value: Any) -> bool:
    return key in MODEL_KEYS and isinstance(value, dict) and "kind" not in value


def _model_text(model: dict[str, Any], where: str) -> str:
    parts = [model.get("model"), model.get("lora")] if "path" not in model else [model, None]
    beyond = model.keys() - ({"model", "lora"} if "path" not in model else {"path", "revision"})
    texts = []
    for part in (part for part in parts if part):
        path = part if isinstance(part, str) else part.get("path") if isinstance(part, dict) else None
        revision = part.get("revision") if isinstance(part, dict) else None
        texts.append(f"{path}@{revision}" if revision else str(path))
        if path is None or beyond:
            raise UserError(
                f"{where}: expected a folder or OWNER/NAME@REVISION, with +ADAPTER behind it, got {model}; write it so"
            )
    return "+".join(texts)


def named_models(config: MergekitKeys) -> dict[str, str]:
    """Every model that a mergekit configuration names, once each, in order, with the dotted key that first names it."""
    names: dict[str, str] = {}
    for name, model in _model_keys(config.given_values(), "merge"):
        names.setdefault(model, name)
    return names


def _model_keys(node: Any, name: str) -> Iterator[tuple[str, str]]:
    """The dotted keys that name a model, and the model."""
    if isinstance(node, dict):
        for key, value in node.items():
            if _names_model(key, value):
                yield f"{name}.{key}", value
            else:
                yield from _model_keys(value, f"{name}.{key}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from _model_keys(value, f"{name}.{number}")


def _names_model(key: str, value: Any) -> bool:
    of_tokenizer = key in _TOKENIZER_KEYS and value in TOKENIZER_WORDS
    return key in MODEL_KEYS and isinstance(value, str) and not of_tokenizer


def resolved_model(model: str, recipe: MergeFile, key: str) -> str:
    """A model's name under a key of a merge file: the absolute folder of a stage of the run, or of a path, which is
    looked for beside the file and then in the working directory; a Hub id as it is. `base` is the model that the
    recipe begins with. An adapter alone is `base+adapter`, with the base that it names.

    Raises:
        UserError: it is none of these.
    """
    where = recipe.place(key)
    shared = shared_keys(recipe.path.parent) if model == "base" else None
    model = shared.named(model) if shared else model
    folder = _local_folder(model, recipe, key)
    if folder is not None:
        base = adapter_base(folder, where)
        return f"{base}+{folder}" if base else str(folder)
    if "/" not in model:
        way = nearest(model, (*STAGE_NAMES, *TOKENIZER_WORDS)) or "correct the name, or make that folder"
        raise UserError(
            f"{where}: expected a stage ({', '.join(STAGE_NAMES)}, apo/N), a folder or a Hub id, got {model}; {way}"
        )
    parts = []
    for part in model.split("+"):
        place = _local_folder(part, recipe, key)
        if place is None and not HUB_ID.fullmatch(part):
            raise UserError(
                f"{where}: expected a stage, a folder, or OWNER/NAME or OWNER/NAME@REVISION of the Hub, got {part} "
                f"({places_looked_at(part, recipe.path.parent)}); correct the path or the id"
            )
        parts.append(part if place is None else str(place))
    return "+".join(parts)


def is_adapted(model: str) -> bool:
    """Whether a model is named as `base+adapter`."""
    return "+" in model and not Path(model).exists()


def _local_folder(model: str, recipe: MergeFile, key: str) -> Path | None:
    """The absolute folder of a stage, which need not be there yet, or of a path that is; None for any other name."""
    if model in STAGE_NAMES or model.startswith("apo/"):
        return (Path(recipe.output_dir) / model).resolve()
    folder = Path(settled(recipe, key, model))
    return folder.resolve() if folder.exists() else None
