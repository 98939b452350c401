"""Folders of soup members, and the steps that they keep.

Member K lies in `OUTPUT_DIR/K`. `checkpoints: [50, 0.5]` also keeps the model after step 50 and after half of the
steps, in `K-at-50` and `K-at-0.5`.
"""

import re
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from apo_soup.config.apo import ApoFile
from apo_soup.config.members import member_recipes
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
    """Folder names of all members that an apo file makes, kept checkpoints among them, in order.

    Raises:
        UserError: a member holds an unknown key or a value of the wrong type.
    """
    names = []
    for member in member_recipes(recipe):
        names += [_kept_name(str(member.member), at) for at in member.checkpoints or []]
        names.append(str(member.member))
    return sorted(names, key=member_order)
