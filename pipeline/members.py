"""Soup members: one recipe each, the file's keys with the member's own laid over them."""

import copy
from pathlib import Path

from pipeline.errors import UserError
from pipeline.recipe import Recipe, check


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
        if "output_dir" in overrides:
            raise UserError(
                f"{recipe.where(f'members.{number - 1}.output_dir')}: a member's folder is OUTPUT_DIR/{number}"
            )
        values = {k: v for k, v in copy.deepcopy(recipe.values).items() if k != "members"} | overrides
        values["output_dir"] = str(Path(recipe.need("output_dir")) / str(number))
        lines = dict(recipe.lines)
        lines |= {key: recipe.lines.get(f"members.{number - 1}.{key}", 0) for key in overrides}
        member = Recipe(recipe.path, "apo", values, lines, recipe.notes, member=number)
        problems += check(member)
        recipes.append(member)
    if problems:
        raise UserError("\n       ".join(problems))
    return recipes
