"""`apo-soup ui RECIPE`: see apo_soup/ui/serve.py."""

from functools import partial
from pathlib import Path

from apo_soup.cli.order import states_of_steps
from apo_soup.cli.rows import make_generated_rows, opened_recipe
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.ui.address import bound_socket, served_address
from apo_soup.ui.packages import require_ui_packages
from apo_soup.ui.stage_folders import files_of_stages


def serve_ui(recipe: Path, host: str, port: int, allowed: list[str], with_token: bool, prefix: str) -> None:
    """Serve the page of a recipe until it is interrupted. The embedded world's rows are made first, as for a preview.

    Raises:
        UserError: a package is missing; the folder has no stage file; the port is taken, or the host is none of this
            machine; or the embedded rows cannot be made.
    """
    require_ui_packages()
    files = files_of_stages(recipe)
    if not files:
        raise UserError(f"{recipe}: expected a folder with stage files, such as sft.yaml, got none; name a recipe's")
    if prefix and not prefix.startswith("/"):
        raise UserError(f"--root-path: expected a path that begins with /, got {prefix}; write /{prefix}")
    bound = bound_socket(host, port)
    from apo_soup.ui.app import Site
    from apo_soup.ui.serve import serve_page

    with bound:
        for file in files:
            _make_rows_of(file)
        site = Site(
            recipe,
            opened_file,
            partial(states_of_steps, recipe),
            served_address(bound, host, allowed, with_token, prefix),
        )
        serve_page(site, bound)


def opened_file(file: Path) -> TrainingFile:
    """A file of rows, without anything laid over it.

    Raises:
        UserError: as `opened_recipe`.
    """
    return opened_recipe(file, [])


def _make_rows_of(file: Path) -> None:
    """Generate the embedded rows that a file reads and that are not there; a wrong file is told of on its page."""
    if stage_of_file(file) not in ("sft", "apo"):
        return
    try:
        recipe = opened_recipe(file, [])
    except UserError:
        return
    make_generated_rows(recipe)
