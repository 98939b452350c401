"""What a merge file asks for: the soup, the mix of soup and mid, or both in one pass, each with its stage folder."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apo_soup.config.merge import MergeFile, SoupKeys
from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.runs.lineage import model_label
from apo_soup.runs.sources import model_hash
from apo_soup.runs.stage import Stage
from merge.average import LinearAverage, one_pass_average, plain_linear
from merge.members import adapter_base, soup_members
from merge.mergekit_names import float_type, named_models, resolved_model, with_models

# Keys beside `merge:` that decide what is merged.
BESIDE = ("long_context", "options")


@dataclass(frozen=True)
class MergePlan:
    """One folder to make: its stage, mergekit's configuration with every model resolved, and where that stands.

    `linear` is set where one pass averages other models than `config` names.
    """

    stage: Stage
    config: dict[str, Any]
    where: str
    linear: LinearAverage | None = None


def merge_plan(recipe: MergeFile, name: str, ask: bool = True) -> MergePlan:
    """The plan of `soup` or `merged`; `ask` as `soup_members` takes it.

    Raises:
        UserError: members or models are missing, or `one_pass` is asked of a merge that is not linear.
    """
    if name == "soup":
        where, config = recipe.where("soup"), soup_config(recipe, ask)
        return MergePlan(_merge_stage(recipe, name, config, where), config, where)
    where, config = recipe.where("merge"), mix_config(recipe)
    if recipe.one_pass:
        return _one_pass_plan(recipe, name, config, where, ask)
    return MergePlan(_merge_stage(recipe, name, config, where), config, where)


def _one_pass_plan(recipe: MergeFile, name: str, config: dict[str, Any], where: str, ask: bool) -> MergePlan:
    """The members of the soup put straight into the mix: 0.9 / N of each of N members and 0.1 of mid."""
    if recipe.options:
        raise UserError(
            f"{recipe.place('options')}: expected none with one_pass: true, which runs without mergekit, got "
            "some; leave out one of the two"
        )
    soup = (Path(recipe.output_dir) / "soup").resolve()
    inner = plain_linear(soup_config(recipe, ask))
    outer = plain_linear(config, absent=str(soup))
    if inner is None or outer is None or soup not in outer.folders:
        raise UserError(
            f"{recipe.place('one_pass')}: expected a linear soup of whole local models and a linear merge "
            "that takes soup in, got another merge; leave one_pass out"
        )
    linear = one_pass_average(outer, soup, inner)
    models = [
        {"model": str(f), "parameters": {"weight": w}} for f, w in zip(linear.folders, linear.weights, strict=True)
    ]
    config = {**config, "models": models}
    return MergePlan(_merge_stage(recipe, name, config, where), config, where, linear)


def soup_config(recipe: MergeFile, ask: bool) -> dict[str, Any]:
    """mergekit's configuration of an equal-weight linear average (Wortsman et al. 2022), summed in float64.

    Raises:
        UserError: members are missing, or adapters of different bases.
    """
    members, where = soup_members(recipe, ask), recipe.where("soup")
    bases = {folder: adapter_base(folder, where) for folder in members}
    adapted = {base for base in bases.values() if base}
    if len(adapted) > 1:
        raise UserError(
            f"{where}: soup.members: expected adapters of one base, got bases {' and '.join(sorted(adapted)[:2])}; "
            "list members of one base"
        )
    names = [f"{bases[f]}+{f.resolve()}" if bases[f] else str(f.resolve()) for f in members]
    models = [{"model": name, "parameters": {"weight": 1.0}} for name in names]
    types = {"dtype": "float64", "out_dtype": (recipe.soup or SoupKeys()).dtype}
    return {"merge_method": "linear", **types, "models": models, "parameters": {"normalize": True}}


def mix_config(recipe: MergeFile) -> dict[str, Any]:
    """mergekit's configuration under `merge:`, with stage names and local paths made absolute.

    Raises:
        UserError: it is not shaped as mergekit's schema, or names a model that is none.
    """
    if recipe.merge is None:
        raise UserError(f"{recipe.path}: merge: expected a mapping of mergekit's schema, got nothing; add it")
    config = copy.deepcopy(recipe.merge)
    for key, kind, word in (("models", list, "list"), ("parameters", dict, "mapping"), ("slices", list, "list")):
        if not isinstance(config.get(key) or kind(), kind):
            where = recipe.where(f"merge.{key}")
            raise UserError(f"{where}: merge.{key}: expected a {word}, got {config[key]!r}; see mergekit's schema")
    for number, entry in enumerate(config.get("models") or []):
        _check_model_entry(entry, recipe.place(f"merge.models.{number}"))
    if "merge_method" not in config:
        raise UserError(
            f"{recipe.place('merge')}.merge_method: expected a method of mergekit's, got none; write linear, "
            "which is SmolLM3's"
        )
    for key in ("dtype", "out_dtype"):
        if config.get(key) is not None:
            float_type(config[key], recipe.place(f"merge.{key}"))
    resolved: dict[str, Any] = with_models(config, lambda model: resolved_model(model, recipe, "merge"))
    return resolved


def _check_model_entry(entry: Any, where: str) -> None:
    """Refuse an entry of `merge.models` that is no mapping of model and parameters."""
    if not isinstance(entry, dict) or "model" not in entry:
        raise UserError(
            f"{where}: expected a mapping with model and parameters, got {entry!r}; write "
            "{model: soup, parameters: {weight: 0.9}}"
        )
    for key in entry.keys() - {"model", "parameters"}:
        raise UserError(f"{where}: expected the keys model and parameters, got {key}; remove it")
    if not isinstance(entry.get("parameters") or {}, dict):
        raise UserError(f"{where}.parameters: expected a mapping, got {entry['parameters']!r}; write {{weight: 0.9}}")


def _merge_stage(recipe: MergeFile, name: str, config: dict[str, Any], where: str) -> Stage:
    """The output folder of a merge, its inputs the models by their content and in their order."""
    run = Path(recipe.output_dir)
    inputs: dict[str, str] = {}
    numbers: dict[str, str] = {}
    for number, model in enumerate(named_models(config)):
        parts = [model] if Path(model).exists() else model.split("+")
        hashes = [model_hash(*_revised(part, where)) for part in parts]
        inputs[f"model {number} {model_label(model, run)}"] = hashes[0] if len(hashes) == 1 else hash_value(hashes)
        numbers[model] = f"model {number}"
    # By number, so that a run folder that was moved is still up to date.
    numbered = with_models(config, numbers.__getitem__)
    if name == "merged":
        numbered |= {k: v for k, v in recipe.given_values().items() if k in BESIDE and v}
    return Stage(name, run / name, numbered, inputs)


def _revised(model: str, where: str) -> tuple[str, str, str | None]:
    """A model's id or folder, where it is named, and the revision behind its @."""
    name, _, revision = (model, "", "") if Path(model).exists() else model.partition("@")
    return name, where, revision or None
