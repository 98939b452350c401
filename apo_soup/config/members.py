"""Soup members: one recipe each, the file's keys with the member's own laid over them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from apo_soup.config.apo import ApoFile
from apo_soup.config.cosmetic import without_cosmetic
from apo_soup.config.given import Given
from apo_soup.config.in_words import as_written
from apo_soup.config.load import check_keys
from apo_soup.config.recipe_file import given_with_shared
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, told_together

# What changes where a training lies and what is kept of it, and not what is learned.
_NOT_LEARNED = ("output_dir", "members", "checkpoints")


def member_recipes(recipe: ApoFile) -> list[ApoFile]:
    """The recipes of all members, in order; a file without `members` has one.

    Raises:
        UserError: a member holds an unknown key or a value of the wrong type, or is another one again.
    """
    recipes, problems = checked_members(recipe.raw(), recipe.members or [{}])
    problems += _alike(recipe.raw(), recipes)
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
        recipes, wrong = checked_members(given, members)
        problems += [*wrong, *_alike(given, recipes)]
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


def what_decides(training: TrainingFile) -> dict[str, Any]:
    """The keys that decide what a training learns, defaults among them."""
    left_out = {*_NOT_LEARNED, *training.settled_elsewhere}
    decided: dict[str, Any] = without_cosmetic(training.model_dump(exclude=left_out), type(training))
    return decided


def _alike(given: Given, recipes: Sequence[ApoFile]) -> Iterator[str]:
    """A sentence for each member that trains as one before it does, or is sent to the same repository."""
    decided = {id(member): what_decides(member) for member in recipes}
    for one, other in ((one, other) for number, other in enumerate(recipes) for one in recipes[:number]):
        place = f"members.{(other.member or 1) - 1}"
        if decided[id(one)] == decided[id(other)]:
            told = f"expected another training than that of member {one.member}, got the same keys"
            yield f"{given.place(place)}: {told}; give it another seed, or leave it out"
        if one.repository is not None and one.repository == other.repository:
            told = f"expected a repository for each member, got {one.hub_model_id} for {one.member} and {other.member}"
            yield f"{other.place('hub_model_id')}: {told}; give each member its own, or leave the key out"


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
