"""The folder that a model's results go to: one a model, whatever its name.

`apo/1` goes to `apo-1`. A name that would meet the folder of another one, such as that of a model which is called
`apo-1`, has a mark of its own behind it.
"""

from collections.abc import Sequence
from pathlib import Path

from apo_soup.runs.own_names import MOST_CHARACTERS, marked_name, plain_name
from apo_soup.runs.results import evaluation_results


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
