"""Soup members: one recipe each, the file's keys with the member's own laid over them, and the steps they keep.

Member K lies in `OUTPUT_DIR/K`. `checkpoints: [50, 0.5]` also keeps the model after step 50 and after half of the
steps, in `K-at-50` and `K-at-0.5`.
"""

import copy
import re
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path

from apo_soup.errors import UserError
from apo_soup.config.recipe import Recipe, check, map_renamed, set_inside
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


def member_recipes(recipe: Recipe) -> list[Recipe]:
    """The recipes of all members, in order; a file without `members` has one.

    Raises:
        UserError: a member holds an unknown key or a value of the wrong type.
    """
    members = recipe.values.get("members") or [{}]
    recipes, problems = [], []
    for number, overrides in enumerate(members, 1):
        if not isinstance(overrides, dict):
            raise UserError(
                f"{recipe.where(f'members.{number - 1}')}: a member is a mapping of keys, found {overrides!r}"
            )
        for key, why in (("output_dir", f"a member's folder is OUTPUT_DIR/{number}"), ("members", "a member has none")):
            if key in overrides:
                raise UserError(f"{recipe.where(f'members.{number - 1}.{key}')}: {why}")
        values = {k: v for k, v in copy.deepcopy(recipe.values).items() if k != "members"}
        values |= {k: v for k, v in overrides.items() if "." not in k}
        values["output_dir"] = str(Path(recipe.need("output_dir")) / str(number))
        lines = dict(recipe.lines)
        lines |= {key: recipe.lines.get(f"members.{number - 1}.{key}", 0) for key in overrides}
        # What was mapped in the file itself is no member's own note.
        member = Recipe(recipe.path, "apo", values, lines, [], member=number)
        for key, value in overrides.items():
            if "." in key:  # reaches inside, as dataset_mixture.datasets.0.weight does on the command line
                set_inside(member, key, value)
        map_renamed(member)
        problems += check(member) + _check_checkpoints(member)
        recipes.append(member)
    if problems:
        raise UserError("\n       ".join(problems))
    return recipes


def _check_checkpoints(recipe: Recipe) -> list[str]:
    """One sentence for each checkpoint that is neither a step's number nor a share, or is given twice."""
    problems = []
    entries = recipe.values.get("checkpoints") or []
    where = recipe.where("checkpoints")
    for number, at in enumerate(entries):
        whole = isinstance(at, int) and not isinstance(at, bool) and at >= 1
        if not whole and not (isinstance(at, float) and 0 < at < 1):
            problems.append(
                f"{where}: a checkpoint is a step's number, or a share of the steps between 0 and 1, found {at!r}"
            )
        elif at in entries[:number]:
            problems.append(f"{where}: checkpoint {at} is given twice")
    return problems


def kept_checkpoints(recipe: Recipe, stage: Stage) -> list[Kept]:
    """The intermediate steps that a member's recipe keeps, each with its own folder beside the member's."""
    found = []
    for at in recipe.values.get("checkpoints") or []:
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


def member_names(recipe: Recipe) -> list[str]:
    """Folder names of all members that an apo file makes, kept checkpoints among them, in order."""
    names = []
    for member in member_recipes(recipe):
        names += [_kept_name(str(member.member), at) for at in member.values.get("checkpoints") or []]
        names.append(str(member.member))
    return sorted(names, key=member_order)
