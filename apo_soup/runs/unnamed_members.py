"""Finished folders of soup members that an apo file no longer names, as after an edit that left some out."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path

from apo_soup.config.apo import ApoFile
from apo_soup.config.merge import MergeFile
from apo_soup.config.places import resolved
from apo_soup.config.stage_file import StageFile
from apo_soup.errors import UserError
from apo_soup.runs.manifest import read_manifest
from apo_soup.runs.members import FOLDER, member_names

# A member's folder, and what lies beside it under a name of the program's own.
_OF_MEMBER = re.compile(rf"\.?(?P<name>{FOLDER.pattern})(\.(partial|old|replaced[-\w]*))?")


def unnamed_members(recipe: ApoFile) -> list[str]:
    """The names of members that have a folder, whole or begun, and that the file does not name, in order.

    Raises:
        UserError: a member of the file is wrong.
    """
    named = member_names(recipe)
    found = (_OF_MEMBER.fullmatch(entry.name) for entry in Path(recipe.output_dir).glob("*"))
    names = {match["name"] for match in found if match and match[0].startswith(".") == bool(match[5])}
    return sorted(names.difference(named))


def finished_member(recipe: ApoFile, name: str) -> Path | None:
    """The whole folder of a member, where this stage made it."""
    folder = Path(recipe.output_dir) / name
    try:
        manifest = read_manifest(folder)
    except UserError:  # nobody knows what that is
        return None
    return folder if manifest and manifest.get("stage") == f"apo/{name}" and not folder.is_symlink() else None


def readers_of(folder: Path, files: Collection[StageFile]) -> tuple[list[str], list[str]]:
    """The names of the files that name a member's folder, and of those that take in all that lie beside it."""
    by_name, by_pattern = [], []
    for recipe in files:
        texts = list(_texts(recipe.given_values()))
        if isinstance(recipe, MergeFile):
            listed = recipe.soup.members if recipe.soup is not None else []
            texts += [f"{folder.parent}/{m}" for m in listed if FOLDER.fullmatch(m)] if isinstance(listed, list) else []
            texts += [f"{folder.parent.parent}/{text}" for text in texts if text.startswith("apo/")]
        if any(resolved(text) == resolved(folder) for text in texts if len(text) < 4096 and "\0" not in text):
            by_name.append(recipe.path.name)
        elif any(text.endswith("/*") and resolved(text[:-2]) == resolved(folder.parent) for text in texts):
            by_pattern.append(recipe.path.name)
    return by_name, by_pattern


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)
