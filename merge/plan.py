"""What a merge file asks for: the soup's members, and mergekit's configuration with stage names resolved."""

import copy
import difflib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apo_soup.config.recipe import Recipe, load
from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.runs.card import told_model
from apo_soup.runs.inputs import HUB_ID, model_hash
from apo_soup.runs.members import FOLDER, member_folders, member_names
from apo_soup.runs.stage import Stage, read_manifest
from merge.greedy import greedy_members

FLOATS = ("float64", "float32", "float16", "bfloat16")
# The keys of mergekit's schema that a plain linear merge has.
LINEAR_KEYS = {"merge_method", "dtype", "out_dtype", "models", "parameters"}
# Keys under which mergekit's schema names a model, and what some of them say in its place.
MODEL_KEYS = ("model", "base_model", "tokenizer_source", "source")
WORDS = ("union", "base")
STAGE_NAMES = ("base", "mid", "sft", "soup", "merged")


def soup_members(recipe: Recipe, ask: bool = True) -> list[Path]:
    """Folders of the soup's members: all that `apo.yaml` beside the file names, those of them that a greedy soup keeps,
    or those listed by number or path.

    Args:
        ask: a greedy soup that is not worked out yet may be worked out; otherwise all members stand for it.

    Raises:
        UserError: a member is missing, or was trained from another model than the first.
    """
    soup = recipe.need("soup")
    members = soup.get("members", "all")
    if members == "greedy":
        candidates = present_members(recipe, "all")
        return greedy_members(recipe, candidates, ask) or candidates
    return present_members(recipe, members)


def present_members(recipe: Recipe, members: str | list) -> list[Path]:
    """Folders of `all` members or of those listed; raises UserError as `soup_members` does."""
    run, apo = Path(recipe.need("output_dir")), recipe.path.parent / "apo.yaml"
    if members == "all" and apo.is_file():
        folders = [run / "apo" / name for name in member_names(load(apo, "apo"))]
    elif members == "all":
        folders = [f for f in member_folders(run) if (f / "manifest.json").is_file()]
    elif isinstance(members, list):
        folders = [run / "apo" / str(m) if FOLDER.fullmatch(str(m)) else Path(m) for m in members]
    else:
        raise UserError(
            f"{recipe.where('soup.members')}: members is all, greedy, or a list of numbers and folders, "
            f"found {members!r}"
        )
    where = recipe.where("soup")
    missing = [f for f in folders if not f.is_dir()]
    if missing or not folders:
        raise UserError(
            f"{where}: soup member {missing[0] if missing else run / 'apo'} is not there; run `make apo` first"
        )
    # Adapters carry no manifest of their own; mergekit is told their base, and that must be one for all.
    parents = {f: (read_manifest(f) or {}).get("inputs", {}).get("model") for f in folders if not adapter_base(f)}
    for folder, parent in parents.items():
        first = next(iter(parents))
        if parent != parents[first]:
            raise UserError(f"{where}: {folder} was trained from another model than {first}; run `make apo` again")
    return folders


def soup_config(members: list[Path], dtype: str, where: str = "soup") -> dict[str, Any]:
    """mergekit's configuration of an equal-weight linear average (Wortsman et al. 2022), summed in float64.

    Raises:
        UserError: some members are adapters of different bases.
    """
    bases = {folder: adapter_base(folder) for folder in members}
    adapted = {base for base in bases.values() if base}
    if len(adapted) > 1:
        raise UserError(f"{where}: the adapters have different bases, {' and '.join(sorted(adapted)[:2])}")
    names = [f"{bases[f]}+{f.resolve()}" if bases[f] else str(f.resolve()) for f in members]
    models = [{"model": name, "parameters": {"weight": 1.0}} for name in names]
    types = {"dtype": "float64", "out_dtype": dtype}
    return {"merge_method": "linear", **types, "models": models, "parameters": {"normalize": True}}


def soup_type(recipe: Recipe) -> str:
    """The type that the soup is written in."""
    return float_type(recipe.values["soup"].get("dtype", "bfloat16"), recipe.where("soup.dtype"))


def adapter_base(folder: Path) -> str | None:
    """The base model of a LoRA adapter's folder, or None for a folder that holds a whole model."""
    file = folder / "adapter_config.json"
    if not file.is_file() or (folder / "config.json").is_file():
        return None
    base = json.loads(file.read_text())["base_model_name_or_path"]
    return str(Path(base).resolve()) if Path(base).exists() else base


def merge_config(recipe: Recipe) -> dict[str, Any]:
    """mergekit's configuration under `merge:`, with stage names and local paths made absolute."""
    config = copy.deepcopy(recipe.need("merge"))
    for key, kind in (("models", list), ("parameters", dict), ("slices", list)):
        if not isinstance(config.get(key) or kind(), kind):
            raise UserError(f"{recipe.where(f'merge.{key}')}: merge.{key} is a {kind.__name__}, found {config[key]!r}")
    for number, entry in enumerate(config.get("models") or []):
        where = recipe.where(f"merge.models.{number}")
        if not isinstance(entry, dict) or "model" not in entry:
            raise UserError(f"{where}: a model of a merge is a mapping with model and parameters, found {entry!r}")
        for key in entry.keys() - {"model", "parameters"}:
            raise UserError(f"{where}: unknown key {key} of a merge's model; it has model and parameters")
        if not isinstance(entry.get("parameters") or {}, dict):
            raise UserError(f"{where}: parameters is a mapping, found {entry['parameters']!r}")
    if "merge_method" not in config:
        raise UserError(f"{recipe.where('merge')}: merge.merge_method is missing; linear is SmolLM3's")
    for key in ("dtype", "out_dtype"):
        float_type(config.get(key), recipe.where(f"merge.{key}"))
    run, where = Path(recipe.values["output_dir"]), recipe.where("merge")
    return with_models(config, lambda model: resolved(model, run, where))


def float_type(name: str | None, where: str) -> str | None:
    """The name of a floating-point type without `torch.`; raises UserError for any other."""
    plain = None if name is None else str(name).removeprefix("torch.")
    if plain not in (None, *FLOATS):
        raise UserError(f"{where}: no type of weights is called {name}; known: {', '.join(FLOATS)}")
    return plain


def with_models(node: Any, change: Callable[[str], str]) -> Any:
    """A mergekit configuration with every model that it names changed."""
    if isinstance(node, dict):
        return {k: change(v) if names_model(k, v) else with_models(v, change) for k, v in node.items()}
    return [with_models(v, change) for v in node] if isinstance(node, list) else node


def names_model(key: str, value: Any) -> bool:
    """Whether an entry of mergekit's schema names a model."""
    return key in MODEL_KEYS and isinstance(value, str) and value not in WORDS


def resolved(model: str, run: Path, where: str) -> str:
    """A model's name in a merge file as a folder, where it is a stage of the run or a path; a Hub id as it is.

    Raises:
        UserError: it is none of these.
    """
    if model in STAGE_NAMES or model.startswith("apo/"):
        return str((run / model).resolve())
    if "/" not in model and not Path(model).exists():
        near = difflib.get_close_matches(model, (*STAGE_NAMES, *WORDS), n=1, cutoff=0.0)[0]
        raise UserError(f"{where}: no stage or folder is called {model}; the nearest name is {near}")
    if Path(model).exists():
        return str(Path(model).resolve())
    for part in model.split("+"):
        if not Path(part).exists() and not HUB_ID.fullmatch(part):
            raise UserError(
                f"{where}: {part} is no stage, no folder, and no OWNER/NAME or OWNER/NAME@REVISION of a Hub"
            )
    return model


def referenced(config: dict[str, Any]) -> list[str]:
    """Every model a mergekit configuration names, in order."""
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if names_model(key, value) and value not in found:
                    found.append(value)
                else:
                    walk(value)
        elif isinstance(node, list):
            for value in node:
                walk(value)

    walk(config)
    return found


def stage_of(recipe: Recipe, name: str, config: dict[str, Any]) -> Stage:
    """The output folder of a merge, its inputs the models by their content and in their order."""
    run = Path(recipe.need("output_dir"))
    inputs = {}
    shown = copy.deepcopy(config)
    for number, model in enumerate(referenced(config)):
        where = recipe.where(name if name == "soup" else "merge")
        parts = [model] if Path(model).exists() else model.split("+")
        hashes = [model_hash(*_revised(part, where)) for part in parts]
        inputs[f"model {number} {told_model(model, run)}"] = hashes[0] if len(hashes) == 1 else hash_value(hashes)
        shown = _replace(shown, model, f"model {number}")
    if name == "merged":
        beside = ("long_context", "options")
        shown |= {k: recipe.values[k] for k in beside if recipe.values.get(k)}
    return Stage(name, run / name, shown, inputs)


def _revised(model: str, where: str) -> tuple[str, str, str | None]:
    """A model's id or folder, where it is named, and the revision behind its @."""
    name, _, revision = (model, "", "") if Path(model).exists() else model.partition("@")
    return name, where, revision or None


def _replace(node: Any, old: str, new: str) -> Any:
    if isinstance(node, dict):
        return {k: _replace(v, old, new) for k, v in node.items()}
    if isinstance(node, list):
        return [_replace(v, old, new) for v in node]
    return new if node == old else node


@dataclass(frozen=True)
class Linear:
    """A linear merge: folders and their weights, `dtype` to sum in, `out_dtype` to write."""

    folders: tuple[Path, ...]
    weights: tuple[float, ...]
    normalize: bool
    dtype: str | None
    out_dtype: str | None


def plain_linear(config: dict[str, Any], absent: str | None = None) -> Linear | None:
    """A mergekit configuration as a linear merge, or None where it asks for more than that.

    `absent` is a folder that need not be there, because one pass puts other models in its place.
    """
    if config.get("merge_method") != "linear" or not config.keys() <= LINEAR_KEYS:
        return None
    parameters = config.get("parameters") or {}
    models = config.get("models") or []
    if not parameters.keys() <= {"normalize"} or not isinstance(parameters.get("normalize", True), bool):
        return None
    folders, weights = [], []
    for entry in models:
        if not isinstance(entry, dict) or not isinstance(entry.get("model"), str):
            return None
        own = entry.get("parameters") or {}
        weight = own.get("weight")
        plain = entry.keys() <= {"model", "parameters"} and own.keys() == {"weight"}
        if not plain or isinstance(weight, bool) or not isinstance(weight, (int, float)):
            return None
        folders.append(Path(entry["model"]))
        weights.append(float(weight))
    if not folders or not all(str(f) == absent or (f / "config.json").is_file() for f in folders):
        return None
    types = [float_type(config.get(key), key) for key in ("dtype", "out_dtype")]
    return Linear(tuple(folders), tuple(weights), parameters.get("normalize", True), *types)


def expanded(outer: Linear, name: Path, inner: Linear) -> Linear:
    """`outer` with the model `name` replaced by those that `inner` averages: soup and merge in one, rounded once."""
    parts: dict[Path, float] = {}
    whole = sum(inner.weights) if inner.normalize else 1.0
    for folder, weight in zip(outer.folders, outer.weights, strict=True):
        shares = {f: weight * w / whole for f, w in zip(inner.folders, inner.weights, strict=True)}
        for part, share in (shares if folder == name else {folder: weight}).items():
            parts[part] = parts.get(part, 0.0) + share
    return Linear(tuple(parts), tuple(parts.values()), outer.normalize, outer.dtype, outer.out_dtype)


@dataclass(frozen=True)
class Plan:
    """One folder to make: its stage, mergekit's configuration, where that stands, and a one-pass average."""

    stage: Stage
    config: dict[str, Any]
    where: str
    linear: Linear | None = None


def planned(recipe: Recipe, name: str, ask: bool = True) -> Plan:
    """The plan of `soup` or `merged`; `ask` as `soup_members` takes it.

    Raises:
        UserError: members or models are missing, or `one_pass` is asked of a merge that is not linear.
    """
    where = recipe.where(name if name == "soup" else "merge")
    if name == "soup":
        config = soup_config(soup_members(recipe, ask), soup_type(recipe), where)
        return Plan(stage_of(recipe, name, config), config, where)
    config = merge_config(recipe)
    if recipe.values.get("one_pass") and recipe.values.get("options"):
        raise UserError(f"{recipe.where('options')}: options are mergekit's, and one_pass does without it; take one")
    if not recipe.values.get("one_pass"):
        return Plan(stage_of(recipe, name, config), config, where)
    soup = soup_config(soup_members(recipe, ask), soup_type(recipe), where)
    folder = str((Path(recipe.need("output_dir")) / "soup").resolve())
    inner = plain_linear(soup)
    outer = plain_linear(config, absent=folder)
    if inner is None or outer is None or Path(folder) not in outer.folders:
        raise UserError(
            f"{recipe.where('one_pass')}: one pass needs a linear soup of whole local models and a linear merge that "
            "takes soup in"
        )
    linear = expanded(outer, Path(folder), inner)
    models = [
        {"model": str(f), "parameters": {"weight": w}} for f, w in zip(linear.folders, linear.weights, strict=True)
    ]
    whole = {**config, "models": models}
    return Plan(stage_of(recipe, name, whole), whole, where, linear)
