"""The members of a soup: all of the run, those listed, or those that a greedy soup keeps."""

from pathlib import Path
from typing import Literal

from apo_soup.config.load import load
from apo_soup.config.merge import MergeFile, SoupKeys
from apo_soup.config.places import places_looked_at, settled
from apo_soup.errors import UserError
from apo_soup.runs.manifest import read_manifest
from apo_soup.runs.members import FOLDER, member_folders, member_names
from apo_soup.runs.sources import adapter_base_name
from merge.greedy import greedy_members


def soup_members(recipe: MergeFile, ask: bool = True) -> list[Path]:
    """Folders of the soup's members: all that `apo.yaml` beside the file names, those of them that a greedy soup keeps,
    or those listed by number or path.

    Args:
        ask: a greedy soup that is not worked out yet may be worked out; otherwise all members stand for it.

    Raises:
        UserError: a member is missing, or was trained from another model than the first.
    """
    soup = recipe.soup or SoupKeys()
    if soup.members == "greedy":
        candidates = _present_members(recipe, "all")
        return greedy_members(recipe, soup, candidates, ask) or candidates
    return _present_members(recipe, soup.members)


def _present_members(recipe: MergeFile, members: Literal["all"] | list[str]) -> list[Path]:
    """Folders of `all` members or of those listed; raises UserError as `soup_members` does."""
    run, apo = Path(recipe.output_dir), recipe.path.parent / "apo.yaml"
    if members == "all" and apo.is_file():
        folders = [run / "apo" / name for name in member_names(load(apo, "apo"))]
    elif members == "all":
        folders = [f for f in member_folders(run) if (f / "manifest.json").is_file()]
    else:
        folders = [listed_member(recipe, name) for name in members]
    where = recipe.place("soup.members")
    missing = [f for f in folders if not f.is_dir()]
    if missing or not folders:
        raise UserError(absent_member(recipe, missing[0] if missing else run / "apo"))
    # Adapters carry no manifest of their own; mergekit is told their base, and that must be one for all.
    whole = [f for f in folders if not adapter_base(f, where)]
    parents = {f: (read_manifest(f) or {}).get("inputs", {}).get("model") for f in whole}
    for folder, parent in parents.items():
        if parent != parents[whole[0]]:
            raise UserError(
                f"{where}: expected members trained from one model, got {folder}, trained from another "
                f"model than {whole[0]}; make them again with `apo-soup run apo`"
            )
    return folders


def listed_member(recipe: MergeFile, name: str) -> Path:
    """The folder of a member that a file lists: one of the run by its number, any other by its path.

    Raises:
        UserError: no file can have this name, or it leads nowhere.
    """
    if FOLDER.fullmatch(name):
        return Path(recipe.output_dir) / "apo" / name
    return Path(settled(recipe, "soup.members", name))


def absent_member(recipe: MergeFile, folder: Path) -> str:
    """The sentence about a member that is not there."""
    run = Path(recipe.output_dir)
    looked = places_looked_at(str(folder), None if folder.is_relative_to(run) else recipe.path.parent)
    where = recipe.place("soup.members")
    return (
        f"{where}: expected a model folder, got {folder}, which is not there ({looked}); run `apo-soup run apo` first"
    )


def adapter_base(folder: Path, where: str) -> str | None:
    """The base model of a LoRA adapter's folder, or None for a folder that holds a whole model.

    Raises:
        UserError: the adapter does not say what its base is.
    """
    file = folder / "adapter_config.json"
    if not file.is_file() or (folder / "config.json").is_file():
        return None
    base = adapter_base_name(folder, where)
    if base is None:
        raise UserError(
            f"{where}: {file}: base_model_name_or_path: expected a folder or a Hub id, got none; write the "
            "adapter's base there"
        )
    return str(Path(base).resolve()) if Path(base).exists() else base
