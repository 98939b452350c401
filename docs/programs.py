"""Write docs/programs.md: what every command and every stage's program takes, by their own `--help`.

python docs/programs.py            # write
python docs/programs.py --check    # exit with 1 where the page would change
"""

import contextlib
import io
import os
import runpy
import sys

from made_block import ROOT, write_block

sys.path.insert(0, str(ROOT))

import typer.cli

from apo_soup.cli.app import app

PAGE = ROOT / "docs" / "programs.md"
STAGES = ("sft", "apo", "apo.pairs", "apo.traces", "merge", "merge.sweep", "apo_soup.cli.sweep", "apo_soup.toy")


def commands() -> str:
    """typer's own description of `apo-soup` and its commands, below a heading of the second level."""
    command = typer.main.get_command(app)
    context = typer.Context(command, info_name="apo-soup")
    return typer.cli.get_docs_for_click(obj=command, ctx=context, name="apo-soup", indent=1).strip()


def help_of(module: str) -> str:
    """What `python -m MODULE --help` prints, in lines of 100 characters."""
    printed = io.StringIO()
    given, sys.argv = sys.argv, [module, "--help"]
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            runpy.run_module(module, run_name="__main__")
    finally:
        sys.argv = given
    return printed.getvalue().strip()


def told_programs() -> str:
    """All of the page between its marks."""
    os.environ["COLUMNS"] = "100"
    stages = [f"### `python -m {module}`\n\n```text\n{help_of(module)}\n```" for module in STAGES]
    return "\n\n".join([commands(), "## Stages", *stages])


if __name__ == "__main__":
    sys.exit(write_block(PAGE, "programs", told_programs, sys.argv[1:]))
