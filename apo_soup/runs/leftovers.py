"""What a run's folder holds that no finished stage is made of: what takes room, who needs it, and its removal.

Only what the program itself writes under names of its own is looked at. A link is nobody's leftover, and neither is
what lies behind one.
"""

import glob
import os
import re
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from apo_soup.config.apo import ApoFile
from apo_soup.config.merge import MergeFile
from apo_soup.config.stage_file import StageFile
from apo_soup.config.sweep import SweepFile
from apo_soup.config.swept_points import swept_points
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, told_by_disk
from apo_soup.runs.arguments import arguments_of
from apo_soup.runs.durable import files_below
from apo_soup.runs.known_hashes import forgotten_files, memory_folder
from apo_soup.runs.lock import at_work
from apo_soup.runs.manifest import BEGUN, begun_mark, read_manifest
from apo_soup.runs.outputs import output_folders
from apo_soup.runs.put_in_place import hidden_sibling
from apo_soup.runs.unnamed_members import finished_member, readers_of, unnamed_members
from apo_soup.runs.walked import POINT_FILE, point_folder, points_folder, trained_model
from apo_soup.stored_json import Form, OtherFormError, json_of_form

# Who needs a leftover: nobody; a stage that is made once more; one that is not up to date, and would go on with it; who
# wants a model that no file makes any more.
FREE, AGAIN, GOES_ON, UNNAMED = "free", "again", "goes on", "unnamed"
# Written aside by a process, with its number: `.manifest.json.123`, `KEY.123.partial`.
_ASIDE = re.compile(r"\..+\.json\.(\d+)|[0-9a-f]{24}\.(\d+)\.partial")
# On another machine its process may live; nothing takes so long to write.
_ASIDE_SECONDS = 86_400.0


@dataclass(frozen=True)
class Leftover:
    """Files that lie somewhere for one reason.

    Attributes:
        paths: the folders or files.
        need: FREE, AGAIN, GOES_ON or UNNAMED.
        told: what they are, and what is to be made again where they are missing.
        users: stage folders at which nobody may be at work while they go.
    """

    paths: tuple[Path, ...]
    need: str
    told: str
    users: tuple[Path, ...] = ()

    @property
    def bytes(self) -> int:
        """The size of all files, links not followed."""
        return sum(_size(path) for path in self.paths)

    def remove(self) -> None:
        """Remove them.

        Raises:
            UserError: somebody is at work with them, or the disk refuses.
        """
        with at_work(*self.users), told_by_disk("clean", self.paths[0]):
            for path in self.paths:
                if not path.is_dir():
                    path.unlink(missing_ok=True)
                    continue
                # What is there under its name is whole, also when this process is killed.
                aside = path.with_name(f".{path.name.removeprefix('.')}.removed")
                if path != aside:
                    path.rename(aside)
                shutil.rmtree(aside)


def leftovers(files: Collection[StageFile], current: Collection[Path]) -> list[Leftover]:
    """What lies beside the stages of a recipe, the largest first.

    Args:
        files: the recipe's files.
        current: the output folders that are up to date.

    Raises:
        UserError: a manifest cannot be read.
    """
    found: dict[tuple[Path, ...], Leftover] = {}
    for recipe in files:
        folders = {**output_folders(recipe), **_evaluated(recipe)}
        for name, folder in folders.items():
            for one in _of_stage(name, folder, folder in current):
                found[one.paths] = one
        if isinstance(recipe, TrainingFile):
            for one in _of_training(recipe, tuple(folders.values()), current):
                found[one.paths] = one
        for one in _unnamed(recipe, files) if isinstance(recipe, ApoFile) else ():
            found[one.paths] = one
        for one in _points(recipe, current) if isinstance(recipe, MergeFile) else ():
            found[one.paths] = one
        for one in _walked(recipe) if isinstance(recipe, SweepFile) else ():
            found[one.paths] = one
        for one in _written_aside({folder.parent for folder in folders.values()}):
            found[one.paths] = one
    forgotten = tuple(forgotten_files())
    if forgotten:
        told = f"hashes of {len(forgotten)} files that are gone, in {memory_folder()}"
        found[forgotten] = Leftover(forgotten, FREE, told)
    return sorted(found.values(), key=lambda one: -one.bytes)


def _evaluated(recipe: StageFile) -> dict[str, Path]:
    """The folders of an eval file's models, begun ones too."""
    if recipe.kind != "eval":
        return {}
    names = {entry.name.removeprefix(".").partition(".partial")[0] for entry in Path(recipe.output_dir).glob("*")}
    return {f"evals/{name}": Path(recipe.output_dir) / name for name in sorted(names)}


def _of_stage(name: str, folder: Path, is_current: bool) -> Iterator[Leftover]:
    """What lies beside a stage's folder."""
    manifest = read_manifest(folder) if folder.is_dir() else None
    made = (manifest or {}).get("fingerprint")
    users = (folder,)
    old = hidden_sibling(folder, "old")
    if _is_folder(old) and (read_manifest(old) or {}).get("stage") == (manifest or {}).get("stage", name):
        put_back = "" if made else ", put back at the next start"
        yield Leftover((old,), FREE if made else GOES_ON, f"{name} as it was before it was made again{put_back}", users)
    for scratch in (hidden_sibling(folder, kind) for kind in ("adapters", "verify")):
        if name in ("soup", "merged") and _is_folder(scratch):
            yield Leftover((scratch,), FREE, "models that lasted as long as a merge", users)
    for removed in folder.parent.glob(f".{folder.name}.*.removed"):
        if _is_folder(removed):
            yield Leftover((removed,), FREE, "what was not removed to its end", users)
    partial = hidden_sibling(folder, "partial")
    for begun in (partial, *folder.parent.glob(f".{glob.escape(folder.name)}.replaced*")):
        if _is_folder(begun) and not begun.name.endswith(".removed"):
            yield from _begun(name, begun, made if is_current else None, users)


def _begun(name: str, begun: Path, made: str | None, users: tuple[Path, ...]) -> Iterator[Leftover]:
    """What a folder is for that was begun; `made` is the fingerprint of the finished one, where that is up to date."""
    steps = [int(f.name.rpartition("-")[2]) for f in begun.glob("checkpoint-*") if f.name[11:].isdigit()]
    at_step = f", at step {max(steps)}" if steps else ""
    try:
        mark = begun_mark(begun)
    except UserError:
        told = f"{name} as it was begun{at_step}; {BEGUN} there is damaged or gone, so nothing goes on from it"
        yield Leftover((begun,), GOES_ON, told, users)
        return
    if mark and mark["fingerprint"] == made:
        yield Leftover((begun,), FREE, f"{name} as it was begun, and is finished since", users)
        return
    with_words = f" with {words}" if mark and (words := arguments_of(mark)) else ""
    told = f"{name} as it was begun{with_words}{at_step}"
    if mark is None or all(file.name == BEGUN for file in files_below(begun)):
        yield Leftover((begun,), FREE, f"{told}, and came to no checkpoint", users)
        return
    yield Leftover((begun,), GOES_ON, f"{told}; the same command goes on from it", users)
    for unusable in (*begun.glob("damaged-checkpoint-*"), *begun.glob(".checkpoint-*")):
        if _is_folder(unusable):
            yield Leftover((unusable,), FREE, "a checkpoint that nothing can go on from", users)


def _of_training(recipe: TrainingFile, folders: tuple[Path, ...], current: Collection[Path]) -> Iterator[Leftover]:
    """Prepared rows of a training file, and of preference training reference values."""
    output = Path(recipe.output_dir)
    name, run = output.name, output.parent
    done = all(folder in current for folder in folders)
    need = AGAIN if done else GOES_ON
    prepared, reference = run / "prepared", run / "reference"
    # A walk over training keys shares both.
    folders += (run / "settings",) if _is_folder(run / "settings_points") else ()
    if _is_folder(prepared):
        own = re.compile(rf"(?P<hidden>\.?){re.escape(name)}-[0-9a-f]{{16}}(?P<kind>(\.\w+)*)")
        for folder in sorted(prepared.iterdir()):
            match = own.fullmatch(folder.name)
            if not match or not _is_folder(folder):
                continue
            whole = folder.with_name(folder.name.removeprefix(".").partition(".")[0])
            users = (*folders, whole)
            if not match["hidden"] and not match["kind"] and (folder / "stats.json").is_file():
                told = f"rows of {name}, prepared again{_in_seconds(folder)} where it is trained again"
                yield Leftover((folder,), need, told, users)
            elif match["hidden"] and match["kind"].endswith((".partial", ".removed")):
                yield Leftover((folder,), FREE, "rows that were not prepared to their end", users)
            elif match["hidden"] and match["kind"] == ".shards":
                joined, told = whole.is_dir(), f"shards of rows of {name}"
                told += ", joined since" if joined else ", to be joined"
                yield Leftover((folder,), FREE if joined else GOES_ON, told, users)
    if recipe.kind == "apo" and _is_folder(reference):
        values = tuple(f for f in sorted(reference.iterdir()) if re.fullmatch(r"[0-9a-f]{24}\.safetensors", f.name))
        values = tuple(file for file in values if not file.is_symlink())
        if values:
            told = f"reference values of {name}, computed again where a member is trained again"
            yield Leftover(values, need, told, folders)
        yield from _written_aside({reference})


def _unnamed(recipe: ApoFile, files: Collection[StageFile]) -> Iterator[Leftover]:
    """Members that the file does not name any more: whole folders that no other file names, and what lies beside."""
    for name in unnamed_members(recipe):
        folder = Path(recipe.output_dir) / name
        yield from _of_stage(f"apo/{name}", folder, is_current=False)
        by_name, by_pattern = readers_of(folder, files)
        if finished_member(recipe, name) and not by_name:
            takes = f"; the report shows it, and {', '.join(by_pattern)} takes it in" if by_pattern else ""
            told = f"apo/{name}, finished, which {recipe.path.name} does not name{takes}"
            yield Leftover((folder,), UNNAMED, told, (folder,))


def _points(recipe: MergeFile, current: Collection[Path]) -> Iterator[Leftover]:
    """Scores of averages that a sweep, or the choice of a greedy soup, has asked for."""
    run = Path(recipe.output_dir)
    asked = {"sweep": recipe.sweep is not None, "soup": recipe.soup is not None and recipe.soup.members == "greedy"}
    for name, place, what in (
        ("sweep", run / "sweep_points", "the sweep, asked again where it is walked again"),
        ("soup", run / "greedy" / "points", "the greedy soup, asked again where its members are chosen again"),
    ):
        # A sweep's points of some tasks lie a folder deeper.
        places = [f for f in (place, *place.glob("*")) if _is_folder(f)] if _is_folder(place) else []
        found = (f for folder in places for f in folder.iterdir() if re.fullmatch(r"\.?mix-.+", f.name))
        points = tuple(sorted(folder for folder in found if _is_folder(folder)))
        if points:
            need = GOES_ON if asked[name] and run / name not in current else AGAIN
            yield Leftover(points, need, f"scores of {what}", (run / name,))


def _walked(recipe: SweepFile) -> Iterator[Leftover]:
    """Points of a walk over training keys that the file does not name any more, and what was begun of the others."""
    folder, walk = points_folder(recipe), output_folders(recipe)["settings"]
    points = swept_points(recipe)
    named = {point_folder(recipe, point): point for point in points}
    for place in sorted(folder.iterdir()) if _is_folder(folder) else ():
        point = named.get(place)
        if point is not None:
            for training in point.trainings:
                model = trained_model(place, training)
                name = model.name if training.member is None else f"apo/{training.member}"
                yield from _of_stage(f"{name} of {point.told}", model, is_current=True)
        elif _is_folder(place) and (place / POINT_FILE).is_file():
            told = f"a point of a walk that {recipe.path.name} does not name"
            yield Leftover((place,), UNNAMED, told, (walk,))


def _written_aside(folders: Collection[Path]) -> Iterator[Leftover]:
    """Files that a process was writing when it ended."""
    for folder in sorted(folders):
        for file in sorted(folder.iterdir()) if _is_folder(folder) else ():
            match = _ASIDE.fullmatch(file.name)
            if match and file.is_file() and not file.is_symlink() and _abandoned(file, int(match[1] or match[2])):
                yield Leftover((file,), FREE, "a file that was not written to its end")


def _abandoned(file: Path, process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return time.time() - file.stat().st_mtime > _ASIDE_SECONDS
    except OSError:
        return False
    return False


class TimedRows(Form):
    """How long a preparation took, as its statistics say."""

    seconds: Annotated[float, Field(ge=0, lt=1e9)]


def _in_seconds(prepared: Path) -> str:
    try:
        seconds = round(json_of_form(prepared / "stats.json", TimedRows)["seconds"])
    except (OSError, OtherFormError):
        return ""
    return f" in {seconds} s" if seconds < 120 else f" in {round(seconds / 60)} min"


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _size(path: Path) -> int:
    if not _is_folder(path):
        return path.lstat().st_size
    inside = (os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names)
    return sum(os.lstat(file).st_size for file in inside)
