"""The folders that a stage file makes, and that nobody's files are in their place.

A finished folder takes the place of what lies there. So what lies there must be nothing, or what the same stage made.
"""

import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path

from apo_soup.config.places import home_folder, resolved
from apo_soup.config.stage_file import StageFile
from apo_soup.errors import UserError, first_line
from apo_soup.runs.manifest import MANIFEST, read_manifest
from apo_soup.runs.model_files import NOBODYS
from apo_soup.runs.named_paths import named_paths
from apo_soup.runs.put_in_place import hidden_sibling

# What stages write beside their folders, by the name that it has in every run.
_OF_THE_RUN = {
    "prepared": "the prepared rows of all stages of a run lie",
    "reference": "the reference values of a run lie",
    "logs": "the trackers of a run write",
    "sweep_points": "the points of a run's sweep lie",
    "settings_points": "the points of a walk over training keys lie",
    "greedy": "the choice of a greedy soup lies",
}
# Linux's list of what is mounted, for this process.
_MOUNTS = Path("/proc/self/mountinfo")
# A file's name may have 255; folders that are not whole yet have marks of their own behind their names.
_NAME_BYTES = 200
# Files of a folder that a sentence names.
_NAMED = 3


def output_folders(recipe: StageFile) -> dict[str, Path]:
    """The folders that a file's program puts into place, by the stage's name; those of an eval file are known when its
    models are.

    Raises:
        UserError: a member of an apo file is wrong.
    """
    # Late: a program's help must not wait for the kinds of file that it never reads.
    from apo_soup.config.apo import ApoFile
    from apo_soup.config.merge import MergeFile
    from apo_soup.runs.members import member_names

    output = Path(recipe.output_dir)
    if isinstance(recipe, ApoFile):
        return {f"apo/{name}": output / name for name in member_names(recipe)}
    if isinstance(recipe, MergeFile):
        asked = {"soup": recipe.soup, "merged": recipe.merge, "sweep": recipe.sweep}
        return {name: output / name for name, keys in asked.items() if keys is not None}
    if recipe.kind == "eval":
        return {}
    if recipe.kind == "sweep":
        return {"settings": output}
    return {output.name if recipe.kind == "sft" else recipe.kind: output}


def output_problems(recipe: StageFile, folders: dict[str, Path]) -> list[str]:
    """A sentence for each folder that is needed for something else, or holds what somebody else made.

    Args:
        folders: what the file makes, by the stage's name.
    """
    place = recipe.place("output_dir")
    needed = dict(_needed(recipe))
    problems = []
    whole = {"": Path(recipe.output_dir)} if recipe.kind == "eval" else {}
    for name, folder in {**whole, **folders}.items():
        found = _no_place(folder) or _place_of_others(folder, needed)
        found = found or (_work_of_others(name, folder) if name else None)
        found = found or (_place_of_the_run(folder) if recipe.kind != "eval" else None)
        if found:
            problems.append(f"{place}: {found}")
    return problems or list(_begins_with_itself(recipe, folders.values()))


def require_own_folder(name: str, folder: Path, where: str) -> None:
    """Refuse to make a folder where that is no place, or holds what another stage or somebody else made.

    Args:
        name: the stage that makes it.
        where: what asked for it, for the sentence.

    Raises:
        UserError: with what lies there.
    """
    found = _no_place(folder) or _work_of_others(name, folder)
    if found:
        raise UserError(f"{where}: {found}")


def _begins_with_itself(recipe: StageFile, folders: Collection[Path]) -> Iterator[str]:
    """That a training begins with what it makes, which is not there at first and is not looked at before it."""
    from apo_soup.config.training import TrainingFile  # late: as in `output_folders`

    if not isinstance(recipe, TrainingFile):
        return
    model = recipe.model_name_or_path
    if any(resolved(model).is_relative_to(resolved(folder)) for folder in folders):
        yield (
            f"{recipe.place('model_name_or_path')}: expected a model that another stage makes, or one that is there, "
            f"got {model}, which {recipe.path.name} makes itself; name the one that it begins with"
        )


def _needed(recipe: StageFile) -> Iterator[tuple[Path, str]]:
    """Places that no stage may take, with what they are in words."""
    for _, path in named_paths(recipe):
        yield resolved(path), f"{path}, which {recipe.path.name} reads"
    yield resolved(recipe.path.parent), "the recipe's folder"
    home = home_folder()
    if home:
        yield resolved(home), "the home folder"
    yield resolved(Path.cwd()), "the working directory"


def _place_of_others(folder: Path, needed: dict[Path, str]) -> str | None:
    """What a folder is, or lies above, that it must not replace."""
    place = resolved(folder)
    # What it is, before what it holds.
    for path, what in sorted(needed.items(), key=lambda each: each[0] != place):
        if place == path or place in path.parents:
            is_it = "is" if place == path else "holds"
            link = f" (a link to {place})" if folder.is_symlink() else ""
            return (
                f"expected a folder of the stage's own, got {folder}{link}, which {is_it} {what}; name a new folder, "
                "such as runs/NAME/STAGE"
            )
    if is_mounted(place):
        return (
            f"expected a folder that can be replaced, got {folder}, where a disk is mounted; name one on it, such as "
            f"{folder / 'run'}"
        )
    return None


def _no_place(folder: Path) -> str | None:
    """Why nothing can be made at a path, or beside it, where what is not whole yet lies."""
    if len(os.fsencode(folder.name)) > _NAME_BYTES:
        return f"expected a name of at most {_NAME_BYTES} bytes, got {len(os.fsencode(folder.name))}; shorten it"
    if folder.name.startswith(".") and folder.name != "..":
        return f"expected a name that begins with no dot, as those of unfinished folders do, got {folder}; rename it"
    above = next((parent for parent in folder.parents if os.path.lexists(parent)), None)
    if above is not None and not above.is_dir():
        return f"expected a folder to write into, got the file {above}; name another folder, or move it away"
    return None


def is_mounted(place: Path) -> bool:
    """Whether a folder is where a disk is mounted, or a folder of the same disk, as containers have them."""
    if place.is_mount():
        return True
    try:
        lines = _MOUNTS.read_bytes().splitlines()
    except OSError:  # of systems other than Linux
        return False
    # Bytes that would end a word stand as octal numbers there.
    told = re.sub(rb"[ \t\n\\]", lambda found: b"\\%03o" % ord(found[0]), os.fsencode(place))
    return any(line.split(b" ")[4] == told for line in lines)


def _place_of_the_run(folder: Path) -> str | None:
    """What stages of the run write into a folder of this name."""
    if folder.name not in _OF_THE_RUN:
        return None
    return (
        f"expected a folder of the stage's own, got {folder}, where {_OF_THE_RUN[folder.name]}; name another one, such "
        "as runs/NAME/STAGE"
    )


def _work_of_others(name: str, folder: Path) -> str | None:
    """What lies in a stage's folder that this stage did not make."""
    if folder.is_symlink() and not folder.exists():
        return f"expected a folder, got {folder}, a link to nothing; remove it"
    partial = hidden_sibling(folder, "partial")
    if partial.is_symlink() or (partial.exists() and not partial.is_dir()):
        what = "a link" if partial.is_symlink() else "a file"
        return f"expected to work in the folder {partial}, got {what} in its place; move it away"
    around = next((parent for parent in folder.parents if (parent / MANIFEST).is_file()), None)
    if around is not None:
        return f"expected a folder of the stage's own, got {folder} in {around}, which a stage made; name one beside it"
    if not folder.exists():
        return None
    if not folder.is_dir():
        return f"expected a folder, got the file {folder}; name another one"
    try:
        manifest = read_manifest(folder)
    except UserError as error:
        return first_line(error)
    if manifest is None:
        files = sorted(file.name for file in folder.iterdir() if file.name not in NOBODYS)
        if not files:
            return None
        more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
        return (
            f"expected an empty folder or one that the stage {name} made, got {folder} with "
            f"{', '.join(files[:_NAMED])}{more}, and no {MANIFEST}; name another folder, or move these files away"
        )
    if manifest.get("stage") != name:
        return (
            f"expected an empty folder or one that the stage {name} made, got {folder}, which the stage "
            f"{manifest.get('stage')} made; name another folder, or move this one away"
        )
    return None
