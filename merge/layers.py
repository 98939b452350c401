"""Slices: which layer of which model each layer of the result is, and what that changes in its configuration.

A model's configuration counts its layers, and may hold a list with an entry a layer: what kind of attention it has,
whether it has positions. Where layers are left out, doubled or taken from elsewhere, the entries go with them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apo_soup.config.mergekit import MergekitKeys
from apo_soup.errors import UserError
from apo_soup.models.whole_config import whole_config
from apo_soup.stored_json import read_json

# Names of the number of layers in config.json.
DEPTH_KEYS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
# Lists of config.json whose length may be that of the layers by chance.
_OTHER_LISTS = ("architectures", "mlp_only_layers")
_OTHER_ENDS = ("_id", "_ids", "_tokens", "_section")


@dataclass(frozen=True)
class SourceLayer:
    """Layer `index` of the model in a folder, counted from 0."""

    folder: Path
    index: int


def depth_key(config: dict[str, Any]) -> str | None:
    """The key under which a configuration counts its layers, or None."""
    return next((key for key in DEPTH_KEYS if isinstance(config.get(key), int)), None)


def output_layers(config: MergekitKeys, where: str) -> list[list[SourceLayer]] | None:
    """The layers of a merge of slices, each with its sources in order; None for a merge of whole models.

    Raises:
        UserError: a slice asks for layers that its model has not, or for unequal numbers of them.
    """
    key_of_slices, slices = _slices(config)
    if slices is None:
        return None
    where_of_slices = f"{where}.{key_of_slices}"
    layers: list[list[SourceLayer]] = []
    for number, part in enumerate(slices):
        sources = []
        for place, source in enumerate(part["sources"]):
            key = f"{where_of_slices}.{number}.sources.{place}.layer_range"
            begin, end = map(int, source["layer_range"])  # mergekit takes 4.0 and "4" for 4
            folder = Path(str(source["model"]))
            settings = read_json(folder / "config.json", where)
            depth = settings.get(depth_key(settings) or "")
            if depth is not None and not 0 <= begin < end <= depth:
                raise UserError(
                    f"{key}: expected layers of {folder}, which has {depth}, got [{begin}, {end}]; write "
                    "[FIRST, LAST + 1], counted from 0"
                )
            sources.append([SourceLayer(folder, index) for index in range(begin, end)])
        if len({len(one) for one in sources}) > 1:
            raise UserError(
                f"{where_of_slices}.{number}.sources: expected as many layers of every model, got "
                f"{', '.join(str(len(one)) for one in sources)}; correct layer_range"
            )
        layers += [list(together) for together in zip(*sources, strict=True)]
    return layers


def _slices(config: MergekitKeys) -> tuple[str, list[Any] | None]:
    """The slices of a merge with their key: its own, or those of its only module."""
    modules = config.modules
    if config.slices is None and isinstance(modules, dict) and len(modules) == 1:
        ((name, module),) = modules.items()
        return f"modules.{name}.slices", module.get("slices") if isinstance(module, dict) else None
    return "slices", config.slices


def layer_settings(folder: Path, where: str) -> dict[str, list[Any]]:
    """What a model's configuration says of each layer, by key, as lists with an entry a layer. What its class works out
    where the file does not say is among it.

    Raises:
        UserError: its configuration cannot be read, or is of another form.
    """
    config = read_json(folder / "config.json", where)
    depth = config.get(depth_key(config) or "")
    whole = whole_config(folder, where)
    return {key: value for key, value in whole.items() if _is_layered(key, value, depth)}


def _is_layered(key: str, value: Any, depth: int | None) -> bool:
    other = key in _OTHER_LISTS or key.endswith(_OTHER_ENDS)
    return isinstance(value, list) and len(value) == depth and not other


def check_layers_alike(layers: list[list[SourceLayer]], where: str) -> None:
    """Refuse to average layers of different kinds, such as one with positions and one without.

    Raises:
        UserError: naming the key, both layers and both kinds.
    """
    settings = {s.folder: layer_settings(s.folder, where) for sources in layers for s in sources}
    for first, *others in layers:
        for other in others:
            for key, values in settings[first.folder].items():
                theirs = settings[other.folder].get(key)
                if theirs is not None and theirs[other.index] != values[first.index]:
                    raise UserError(
                        f"{where}.slices: {key}: expected layers of one kind together, got layer {first.index} of "
                        f"{first.folder} with {values[first.index]} and layer {other.index} of {other.folder} with "
                        f"{theirs[other.index]}; move layer_range"
                    )


def layer_changes(layers: list[list[SourceLayer]], donor: Path, where: str) -> dict[str, Any]:
    """The keys of the donor's config.json that a merge of these layers changes, with their values.

    Raises:
        UserError: a list with an entry a layer is not in the configuration of a model that a layer comes from.
    """
    config = read_json(donor / "config.json", where)
    key = depth_key(config)
    if key is None:
        return {}
    from_models = [sources[0] for sources in layers]
    settings = {s.folder: layer_settings(s.folder, where) for s in from_models}
    changes: dict[str, Any] = {key: len(layers)}
    for name in layer_settings(donor, where):
        lacking = next((folder for folder, known in settings.items() if name not in known), None)
        if lacking:
            raise UserError(
                f"{where}: {lacking}/config.json: {name}: expected an entry a layer, as in {donor}/config.json, got "
                "none; merge models of one architecture"
            )
        changes[name] = [settings[s.folder][name][s.index] for s in from_models]
    dense = {s.folder: read_json(s.folder / "config.json", where).get("mlp_only_layers") or [] for s in from_models}
    if config.get("mlp_only_layers"):
        changes["mlp_only_layers"] = [n for n, s in enumerate(from_models) if s.index in dense[s.folder]]
    if config.get("max_window_layers") is not None:
        changes["max_window_layers"] = _full_layers(changes.get("layer_types"), len(layers))
    return changes


def _full_layers(layer_types: list[str] | None, depth: int) -> int:
    """The layers before the first one with a window, which older readers take from `max_window_layers`."""
    kinds = layer_types or []
    return next((n for n, kind in enumerate(kinds) if kind == "sliding_attention"), depth)
