"""The folder that a model's results go to: one a model, whatever its name.

`apo/1` goes to `apo-1`. A name that would meet the folder of another one, such as that of a model which is called
`apo-1`, has a mark of its own behind it.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from apo_soup.hashing import hash_value
from apo_soup.runs.results import evaluation_results

# Letters of the hash that tells two names, or two folders, apart.
MARK_LETTERS = 8
# Characters of a name that are kept; a file's name may be of 255 bytes.
MOST_CHARACTERS = 60
_ODD = re.compile(r"[^\w.@+=-]")


def name_mark(text: str) -> str:
    """What tells one name or path from others that look alike."""
    return hash_value(text)[:MARK_LETTERS]


def plain_name(name: str) -> str:
    """A model's name as the name of a folder, which others may share.

    >>> plain_name("apo/1"), plain_name("mix/half"), plain_name("../up")
    ('apo-1', 'mix-half', '-.-up')
    """
    flat = _ODD.sub("-", name)
    return (f"-{flat[1:]}" if flat.startswith(".") else flat)[:MOST_CHARACTERS]


def marked_name(name: str) -> str:
    """A model's name as the name of a folder that is nobody else's."""
    return f"{plain_name(name)}.{name_mark(name)}"


def own_file_name(name: str) -> str:
    """A name as that of a file: as it is where that may be, else marked, since another name may look like it.

    >>> own_file_name("lcb-1"), own_file_name("lcb 1")
    ('lcb-1', 'lcb-1.1b113886')
    """
    return name if plain_name(name) == name else marked_name(name)


def results_folders(output: Path, names: Sequence[str]) -> dict[str, Path]:
    """A folder for each of a suite's models by name: the plain one where no other name has or had it.

    Raises:
        UserError: results that lie there cannot be read.
    """
    holders = {plain: holder(output / plain) for plain in map(plain_name, names)}
    # Whose results are there stays; then a name with a slash goes first, which is a member's and there in every run.
    order = sorted(names, key=lambda name: (holders[plain_name(name)] != name, "/" not in name, name))
    folders: dict[str, Path] = {}
    taken: set[str] = set()
    for name in order:
        plain = plain_name(name)
        free = plain.casefold() not in taken and holders[plain] in (None, name) and len(name) <= MOST_CHARACTERS
        folders[name] = output / (plain if free and not (output / marked_name(name)).is_dir() else marked_name(name))
        taken.add(plain.casefold())
    return folders


def holder(folder: Path) -> str | None:
    """The name of the model whose results a folder has; None where it has none.

    Raises:
        UserError: they cannot be read.
    """
    file = folder / "results.json"
    return str(evaluation_results(file)["name"]) if file.is_file() else None
