"""Where a path of a recipe is: beside the recipe, else in the working directory.

What a stage makes lies below the working directory alone, so a path into the run's own folder is not looked for beside
the recipe.
"""

import glob
import os
import re
from pathlib import Path
from typing import Any

from apo_soup.config.file_names import file_name_fault
from apo_soup.config.in_words import as_written
from apo_soup.config.keys import has_mark
from apo_soup.config.stage_file import StageFile, nested
from apo_soup.errors import UserError

# A shell's variable.
_VARIABLE = re.compile(r"\$\{?[A-Za-z_]")


def expanded(path: str | Path) -> Path:
    """A path with the home folder in the place of its ~; as it is where nobody knows that folder, as in a container
    whose user has no name.
    """
    return Path(os.path.expanduser(path))


def home_folder() -> Path | None:
    """This user's home folder, or None where nobody knows it."""
    home = expanded("~")
    return home if home.is_absolute() else None


def settle_paths(recipe: StageFile) -> None:
    """Put the place that was found into every key that names a file or folder; where both places have one, a note says
    which was taken. A ~ at the beginning stands for the home folder, in `output_dir` too.

    Raises:
        UserError: a key, or `output_dir`, is what no file can be called, or leads nowhere.
    """
    fault = file_name_fault(recipe.output_dir) or _lost(recipe.output_dir) or _of_elsewhere(recipe.output_dir)
    if fault:
        raise UserError(f"{recipe.place('output_dir')}: {fault}")
    recipe.__dict__["output_dir"] = os.path.expanduser(recipe.output_dir)
    for name, keys in nested(recipe):
        for field, declared in type(keys).model_fields.items():
            if not has_mark(declared, "path") or not keys.gives(field):
                continue
            value = keys.__dict__[field]
            settled = _settled(recipe, f"{name}.{field}" if name else field, value)
            if settled != value:
                keys._as_written[field] = value
                keys.__dict__[field] = settled


def _settled(recipe: StageFile, name: str, value: Any) -> Any:
    if isinstance(value, str):
        return settled(recipe, name, value)
    if isinstance(value, list):
        return [_settled(recipe, f"{name}.{n}", v) for n, v in enumerate(value)]
    if isinstance(value, dict):
        return {k: _settled(recipe, f"{name}.{k}", v) for k, v in value.items()}
    return value


def settled(recipe: StageFile, name: str, written: str) -> str:
    """A path as it is found: `written` itself where it is absolute, inline text, of the run, or nowhere beside.

    Raises:
        UserError: no file can have this name, or it leads nowhere.
    """
    fault = file_name_fault(written)
    if fault and "{" not in written:  # which a template written into the recipe has
        raise UserError(f"{recipe.place(name)}: {fault}")
    lost = None if "{" in written else _lost(written) or _lost(str(recipe.path.parent / written))
    if lost:
        raise UserError(f"{recipe.place(name)}: {lost}")
    if not written or "\n" in written or "{" in written or Path(written).is_absolute():
        return written
    if written.startswith("~"):
        return os.path.expanduser(written)
    run = run_folder_of(recipe)
    if Path(written).is_relative_to(run) and run != Path():
        return written
    beside = recipe.path.parent / written
    if not _is_there(beside):
        return written
    here = Path(written)
    if _is_there(here) and here.resolve() != beside.resolve():
        told = f"{written} is beside the recipe and in the working directory; {beside} is taken"
        recipe.notes.append(f"{recipe.place(name)}: {told}")
    return str(here) if _is_there(here) and here.resolve() == beside.resolve() else str(beside)


def _lost(written: str) -> str | None:
    """Why a path leads nowhere, whatever lies there, as the rest of a sentence."""
    path = os.path.expanduser(written)
    if path.startswith("~") and not os.path.lexists(path):
        return f"expected a path, got {as_written(written)}, whose home folder nobody knows; write the whole path"
    try:
        place = Path(path).resolve()
    except (RuntimeError, OSError):  # of Python before 3.13, and since
        return f"expected a path, got {as_written(written)}, a link that leads to itself; remove the link"
    return unwritable_name(place)


def unwritable_name(path: Path) -> str | None:
    """Why a path that is there cannot be written into JSON or given to Arrow, as the rest of a sentence; or None."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return f"expected a path in UTF-8, got {str(path)!a}; rename that file or folder"
    return None


def _of_elsewhere(written: str) -> str | None:
    """Why an output is no folder of this machine, as the rest of a sentence: it would be one of a strange name."""
    if "://" in written:
        return f"expected a folder of this machine, got the address {as_written(written)}; write a path"
    if _VARIABLE.search(written):
        return f"expected a path, got {as_written(written)}, whose variable nobody replaces here; write the whole path"
    return None


def run_folder_of(recipe: StageFile) -> Path:
    """The folder of the run that a stage file works in: `output_dir` of a merge file, its parent for any other."""
    output = Path(recipe.output_dir)
    return output if recipe.kind == "merge" else output.parent


def resolved(name: str | Path) -> Path:
    """A path without links or dots, whether or not it is there."""
    return Path(os.path.expanduser(name)).resolve()


def _is_there(path: Path) -> bool:
    try:
        return path.exists() or (glob.has_magic(str(path)) and any(glob.iglob(str(path), recursive=True)))
    except (OSError, ValueError):  # too long for a name, or no name at all
        return False


def places_looked_at(written: str, recipe_folder: Path | None) -> str:
    """Both places of a path that is not there, for a sentence."""
    here = _shown(Path.cwd() / written)
    if Path(written).is_absolute() or recipe_folder is None:
        return f"looked for {here}"
    return f"looked for {_shown((recipe_folder / written).absolute())} and {here}"


def _shown(path: Path) -> Path:
    """A path without steps upward, which a reader would have to take himself."""
    return path.resolve() if ".." in path.parts else path
