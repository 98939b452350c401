"""Whether `python -m sft` would start our stage, or a file of the user's with the same name.

Python puts the working directory before the installed packages, so `./merge.py` takes the place of our `merge`. The
stages' packages bear short names because `accelerate launch -m` needs them.
"""

import importlib.util
import sys
from importlib.machinery import PathFinder
from pathlib import Path

import apo_soup
from apo_soup.errors import UserError


def require_our_module(module: str) -> None:
    """Make sure that `python -m MODULE`, started from the working directory, runs the stage that came with apo-soup.

    Raises:
        UserError: another file or package is found first.
    """
    name = module.partition(".")[0]
    ours = Path(apo_soup.__file__).parents[1] / name / "__init__.py"
    found = file_of_module(name)
    if found is not None and found.resolve() != ours.resolve():
        raise UserError(
            f"{found}: expected `python -m {module}` to run {ours.parent}, got this file, which is found first; rename "
            "it, or start from another folder"
        )


def file_of_module(name: str) -> Path | None:
    """The file that a Python started in the working directory would import `name` from; None where it has none."""
    # An editable install has a finder of its own, which is asked after the folders of sys.path.
    working_directory = [] if sys.flags.safe_path else [str(Path.cwd())]
    spec = PathFinder.find_spec(name, [*working_directory, *sys.path])
    if spec is None or spec.origin is None:
        spec = importlib.util.find_spec(name)
    return Path(spec.origin) if spec and spec.origin else None
