"""Soup members: one recipe each, the file's keys with the member's own laid over them, and the steps they keep.

Member K lies in `OUTPUT_DIR/K`. `checkpoints: [50, 0.5]` also keeps the model after step 50 and after half of the
steps, in `K-at-50` and `K-at-0.5`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from apo_soup.config.apo import ApoFile
from apo_soup.config.given import Given
from apo_soup.config.in_words import as_written
from apo_soup.config.load import check_keys
from apo_soup.errors import UserError, told_together
from apo_soup.runs.stage import Stage

FOLDER = re.compile(r"(\d+)(?:-at-(\d+(?:\.\d+)?))?")


@dataclass(frozen=True)
class Kept:
    """An intermediate step to keep: `at` is its number, or a share of all steps below 1."""

    at: int | float
    stage: Stage

    def step(self, steps: int) -> int:
        """The step's number in a run of `steps` steps; a share is rounded, and is at least the first step."""
        return self.at if isinstance(self.at, int) else max(1, round(self.at * steps))


def member_recipes(recipe: ApoFile) -> list[ApoFile]:
    """The recipes of all members, in order; a file without `members` has one.

    Raises:
        UserError: a member holds an unknown key or a value of the wrong type.
    """
    recipes, problems = _checked(recipe.raw(), recipe.members or [{}])
    if problems:
        raise told_together(problems)
    for member in recipes:
        member.notes[:] = [note for note in member.notes if note not in recipe.notes]
    return recipes


def file_problems(path: Path, overrides: Sequence[str] = (), options: Sequence[str] = ()) -> list[str]:
    """A sentence for everything that is wrong with an apo file, in the keys that members share and in their own, and
    with the words laid over it; see `load`.
    """
    given = Given.from_file(path, list(overrides), options)
    members = given.values.get("members")
    _, problems = check_keys("apo", given.copy())
    if isinstance(members, list) and all(isinstance(m, dict) for m in members):
        problems += _checked(given, members)[1]
    return list(dict.fromkeys(problems))


def _checked(given: Given, members: list[dict[str, Any]]) -> tuple[list[ApoFile], list[str]]:
    """The recipes of members that are right, and a sentence for everything that is wrong with the others."""
    recipes, problems = [], []
    for number, overrides in enumerate(members, 1):
        place = f"members.{number - 1}"
        refused = {
            "output_dir": f"no folder of a member's own, which is OUTPUT_DIR/{number}",
            "members": "no members of a member",
        }
        problems += [
            f"{given.place(f'{place}.{key}')}: expected {told}, got {as_written(overrides[key])}; leave the key out"
            for key, told in refused.items()
            if key in overrides
        ]
        laid = given.copy()
        laid.values.pop("members", None)
        laid.values["output_dir"] = str(Path(str(laid.values.get("output_dir"))) / str(number))
        for key, value in overrides.items():
            if key in refused:
                continue
            try:  # a dotted key reaches inside, as dataset_mixture.datasets.0.weight does
                laid.set(str(key), value, given.place(f"{place}.{key}"))
            except UserError as error:
                problems.append(str(error))
                continue
            _take_places(laid, given, place, str(key))
        member, wrong = check_keys("apo", laid, member=number)
        problems += wrong
        if isinstance(member, ApoFile):
            recipes.append(member)
    return recipes, problems


def _take_places(laid: Given, given: Given, place: str, key: str) -> None:
    """Let a key, and what it holds, stand where the member at `place` gives it: on its lines or the command line."""
    laid.overridden = {name for name in laid.overridden if name != key and not name.startswith(f"{key}.")}
    for name, line in given.lines.items():
        if name == f"{place}.{key}" or name.startswith(f"{place}.{key}."):
            laid.lines[name.removeprefix(f"{place}.")] = line
    if not given.overridden.isdisjoint(("members", place)):
        laid.overridden.add(key)
    laid.overridden |= {
        name.removeprefix(f"{place}.") for name in given.overridden if f"{name}.".startswith(f"{place}.{key}.")
    }


def kept_checkpoints(recipe: ApoFile, stage: Stage) -> list[Kept]:
    """The intermediate steps that a member's recipe keeps, each with its own folder beside the member's."""
    found = []
    for at in recipe.checkpoints or []:
        folder = stage.folder.with_name(_kept_name(stage.folder.name, at))
        config = stage.config | {"checkpoint": at}
        found.append(Kept(at, replace(stage, name=f"apo/{folder.name}", folder=folder, config=config)))
    return found


def _kept_name(member: str, at: int | float) -> str:
    """The folder of a kept step, whose share is written without an exponent."""
    return f"{member}-at-{format(Decimal(repr(at)), 'f')}"


def member_folders(run: Path) -> list[Path]:
    """Folders of all members that a run has, in order."""
    found = [f for f in (run / "apo").glob("*") if FOLDER.fullmatch(f.name)]
    return sorted(found, key=lambda f: member_order(f.name))


def member_order(name: str) -> tuple[float, float, str]:
    """Sort key of members' folder names: by number, kept checkpoints before the end, other names behind."""
    match = FOLDER.fullmatch(name)
    if not match:
        return (float("inf"), 0.0, name)
    return (int(match[1]), float(match[2]) if match[2] else float("inf"), name)


def member_of_folder(name: str) -> int:
    """The number of the member whose training makes a folder of this name, itself or a kept checkpoint of it.

    >>> member_of_folder("2-at-0.5")
    2
    """
    return int(name.partition("-")[0])


def member_names(recipe: ApoFile) -> list[str]:
    """Folder names of all members that an apo file makes, kept checkpoints among them, in order."""
    names = []
    for member in member_recipes(recipe):
        names += [_kept_name(str(member.member), at) for at in member.checkpoints or []]
        names.append(str(member.member))
    return sorted(names, key=member_order)
