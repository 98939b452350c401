"""What a merge file asks for: the soup's members, and mergekit's configuration with stage names resolved."""

import copy
import difflib
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.inputs import model_hash
from pipeline.members import FOLDER, member_folders, member_names
from pipeline.recipe import Recipe, load
from pipeline.stage import Stage, read_manifest

STAGE_NAMES = ("base", "mid", "sft", "soup", "merged")
GENERATION = {"do_sample": True, "temperature": 0.6, "top_p": 0.95}


def soup_members(recipe: Recipe) -> list[Path]:
    """Folders of the soup's members: all that `apo.yaml` beside the file names, or those listed by number or path.

    Raises:
        UserError: a member is missing, or was trained from another model than the first.
    """
    soup = recipe.need("soup")
    run, apo = Path(recipe.need("output_dir")), recipe.path.parent / "apo.yaml"
    members = soup.get("members", "all")
    if members == "all" and apo.is_file():
        folders = [run / "apo" / name for name in member_names(load(apo, "apo"))]
    elif members == "all":
        folders = [f for f in member_folders(run) if (f / "manifest.json").is_file()]
    elif isinstance(members, list):
        folders = [run / "apo" / str(m) if FOLDER.fullmatch(str(m)) else Path(m) for m in members]
    else:
        raise UserError(
            f"{recipe.where('soup.members')}: members is all or a list of numbers and folders, found {members!r}"
        )
    where = recipe.where("soup")
    missing = [f for f in folders if not f.is_dir()]
    if missing or not folders:
        raise UserError(
            f"{where}: soup member {missing[0] if missing else run / 'apo'} is not there; run `make apo` first"
        )
    parents = {f: (read_manifest(f) or {}).get("inputs", {}).get("model") for f in folders}
    for folder, parent in parents.items():
        if parent != parents[folders[0]]:
            raise UserError(f"{where}: {folder} was trained from another model than {folders[0]}; run `make apo` again")
    return folders


def soup_config(members: list[Path], dtype: str) -> dict[str, Any]:
    """mergekit's configuration of an equal-weight linear average (Wortsman et al. 2022)."""
    models = [{"model": str(folder.resolve()), "parameters": {"weight": 1.0}} for folder in members]
    return {"merge_method": "linear", "dtype": dtype, "models": models, "parameters": {"normalize": True}}


def merge_config(recipe: Recipe) -> dict[str, Any]:
    """mergekit's configuration under `merge:`, with stage names and local paths made absolute."""
    config = copy.deepcopy(recipe.need("merge"))
    if "merge_method" not in config:
        raise UserError(f"{recipe.where('merge')}: merge.merge_method is missing; linear is SmolLM3's")
    run = Path(recipe.values["output_dir"])

    def resolve(node: Any) -> Any:
        if isinstance(node, dict):
            return {
                k: name(v) if k in ("model", "base_model") and isinstance(v, str) else resolve(v)
                for k, v in node.items()
            }
        return [resolve(v) for v in node] if isinstance(node, list) else node

    def name(model: str) -> str:
        if model in STAGE_NAMES or model.startswith("apo/"):
            return str((run / model).resolve())
        if "/" not in model and not Path(model).exists():
            near = difflib.get_close_matches(model, STAGE_NAMES, n=1, cutoff=0.0)[0]
            raise UserError(
                f"{recipe.where('merge')}: no stage or folder is called {model}; the nearest stage is {near}"
            )
        return str(Path(model).resolve()) if Path(model).exists() else model

    return resolve(config)


def referenced(config: dict[str, Any]) -> list[str]:
    """Every model a mergekit configuration names, in order."""
    found: list[str] = []

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                if key in ("model", "base_model") and isinstance(value, str) and value not in found:
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
    inputs = {}
    shown = copy.deepcopy(config)
    for number, model in enumerate(referenced(config)):
        inputs[f"model {number} {Path(model).name}"] = model_hash(
            model, recipe.where(name if name == "soup" else "merge")
        )
        shown = _replace(shown, model, f"model {number}")
    return Stage(name, Path(recipe.need("output_dir")) / name, shown, inputs)


def _replace(node: Any, old: str, new: str) -> Any:
    if isinstance(node, dict):
        return {k: _replace(v, old, new) for k, v in node.items()}
    if isinstance(node, list):
        return [_replace(v, old, new) for v in node]
    return new if node == old else node
