"""What comes with the package beside its code: recipes, accelerate configurations and the chat template.

A wheel holds the recipes in `apo_soup/recipes`; in a checkout, and so in an editable install, they are the folder
`recipes/` beside `apo_soup/`.
"""

import os
from importlib import resources
from pathlib import Path

from apo_soup.errors import UserError


def shipped_recipes() -> Path:
    """Folder of the recipes that come with the package, `accelerate/` among them."""
    package = Path(str(resources.files("apo_soup")))
    in_wheel = package / "recipes"
    return in_wheel if in_wheel.is_dir() else package.parent / "recipes"


def project_environment() -> dict[str, str]:
    """This process's environment, in which another Python finds this project's packages before all others."""
    package = Path(str(resources.files("apo_soup")))
    path = os.pathsep.join(filter(None, (str(package.parent), os.environ.get("PYTHONPATH"))))
    return os.environ | {"PYTHONPATH": path}


def shipped_names() -> list[str]:
    """Names of the recipes that come with the package; every one of them ends in an evaluation."""
    return sorted(file.parent.name for file in shipped_recipes().glob("*/eval.yaml"))


def recipe_folder(name: str) -> Path:
    """The recipe folder `name`, or the recipe of that name that comes with the package.

    Raises:
        UserError: neither is there; the message names both places and lists the shipped recipes.
    """
    folder = Path(os.path.expanduser(name))
    if folder.is_dir():
        return folder
    shipped = shipped_names()
    if name in shipped:
        return shipped_recipes() / name
    if folder.is_file():
        raise UserError(f"{name}: expected a recipe folder, got a file; name its folder, {folder.parent}")
    raise UserError(
        f"{name}: expected a recipe folder, got none at {folder.absolute()} nor in {shipped_recipes()}; give the path "
        f"of a folder, or a shipped recipe: {', '.join(shipped)}"
    )


def launch_file(name: str) -> Path:
    """The accelerate configuration `name`: a file, or one that comes with the package, such as `fsdp2.yaml`.

    Raises:
        UserError: neither is there.
    """
    file = Path(os.path.expanduser(name))
    if file.is_file():
        return file
    folder = shipped_recipes() / "accelerate"
    shipped = sorted(known.name for known in folder.glob("*.yaml"))
    if name in shipped:
        return folder / name
    raise UserError(
        f"--launch {name}: expected an accelerate configuration, got no file at {file.absolute()} nor in {folder}; "
        f"give the path of a file, or a shipped one: {', '.join(shipped)}"
    )


def chat_template() -> str:
    """The text of our chat template, which recipes ask for as `chat_template: apo-soup`."""
    return template_source("chat_template.jinja")


def template_source(name: str) -> str:
    """The text of a Jinja template that comes with the package."""
    return (resources.files("apo_soup") / "templates" / name).read_text(encoding="utf-8")
