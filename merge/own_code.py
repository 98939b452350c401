"""Models that come with their own code: the files that `auto_map` names go where the weights go."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError
from apo_soup.stored_json import read_json

# Files that may name classes of a model's own code.
_NAMING = ("config.json", "tokenizer_config.json")


def check_own_code(folder: Path, where: str) -> None:
    """Refuse a model whose configuration names code that is not beside it: what is merged could not be loaded.

    Raises:
        UserError: naming the configuration and the file that is missing.
    """
    for settings, name in _code_files(folder, where):
        if not (folder / name).is_file():
            raise UserError(
                f"{where}: {folder}/{settings}: auto_map: expected {name} beside it, got no such file; fetch the whole "
                "model, or remove auto_map where transformers has a class for it"
            )


def copy_own_code(parent: Path, folder: Path, where: str) -> None:
    """Copy the parent's code, and what it imports from beside it, if its configuration names any.

    Raises:
        UserError: its configuration cannot be read, or is of another form.
    """
    if any(True for _ in _code_files(parent, where)):
        for file in sorted(parent.glob("*.py")):
            shutil.copyfile(file, folder / file.name)


def other_code(first: Path, folders: list[Path], where: str) -> list[str]:
    """A line for each file of code that a model has otherwise than `first`, whose code a merge takes.

    Raises:
        UserError: a configuration cannot be read, or is of another form.
    """
    names = dict.fromkeys(name for _, name in _code_files(first, where))
    return [
        f"{folder}/{name} differs from {first}/{name}, which the merge takes"
        for folder in folders
        for name in names
        if (folder / name).is_file() and (folder / name).read_bytes() != (first / name).read_bytes()
    ]


def _code_files(folder: Path, where: str) -> Iterator[tuple[str, str]]:
    """Each file of code that the folder's configurations name, after the configuration that names it. A class of
    another repository (`OWNER/NAME--file.Class`) is fetched from there and belongs to no folder.
    """
    for settings in _NAMING:
        if (folder / settings).is_file():
            for reference in _references(read_json(folder / settings, where).get("auto_map")):
                if "--" not in reference:
                    yield settings, reference.partition(".")[0] + ".py"


def _references(node: Any) -> Iterator[str]:
    """The texts of an `auto_map`: `file.Class`, or lists of such, of a slow and a fast tokenizer."""
    if isinstance(node, str):
        yield node
    elif isinstance(node, (list, dict)):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _references(value)
