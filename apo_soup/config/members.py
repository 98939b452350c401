"""Soup members: one recipe each, the file's keys with the member's own laid over them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from apo_soup.config.apo import ApoFile
from apo_soup.config.given import Given
from apo_soup.config.in_words import as_written
from apo_soup.config.load import check_keys
from apo_soup.config.recipe_file import given_with_shared
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, told_together


def member_recipes(recipe: ApoFile) -> list[ApoFile]:
    """The recipes of all members, in order; a file without `members` has one.

    Raises:
        UserError: a member holds an unknown key or a value of the wrong type.
    """
    recipes, problems = checked_members(recipe.raw(), recipe.members or [{}])
    if problems:
        raise told_together(problems)
    for member in recipes:
        member.notes[:] = [note for note in member.notes if note not in recipe.notes]
    return recipes


def file_problems(path: Path, overrides: Sequence[str] = (), options: Sequence[str] = ()) -> list[str]:
    """A sentence for everything that is wrong with an apo file, in the keys that members share and in their own, and
    with the words laid over it; see `load`.

    Raises:
        UserError: the file cannot be read, is no YAML, no mapping, or gives a key twice.
    """
    given = given_with_shared(path, "apo", overrides, options)
    members = given.values.get("members")
    _, problems = check_keys("apo", given.copy())
    if isinstance(members, list) and all(isinstance(m, dict) for m in members):
        problems += checked_members(given, members)[1]
    return list(dict.fromkeys(problems))


def same_but_seed(one: TrainingFile, other: TrainingFile) -> bool:
    """Whether two trainings of one file, such as soup members, differ in nothing but their seeds and folders."""
    apart = {"seed", "data_seed", "output_dir", "members"}
    return one.path == other.path and one.model_dump(exclude=apart) == other.model_dump(exclude=apart)


def checked_members(given: Given, members: list[dict[str, Any]]) -> tuple[list[ApoFile], list[str]]:
    """The recipes of members that are right, and a sentence for everything that is wrong with the others.

    Args:
        members: what each lays over the given keys.

    Raises:
        UserError: `recipe.yaml` beside the file is wrong.
    """
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
