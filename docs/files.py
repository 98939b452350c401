"""Write the list of files in docs/code.md from the first sentence of every module's docstring.

python docs/files.py            # write
python docs/files.py --check    # exit with 1 where the page would change
"""

import ast
import re
import sys
from pathlib import Path

from made_block import ROOT, write_block

PAGE = ROOT / "docs" / "code.md"
# The order in which rooms may import, from the ground up.
ROOMS = (
    "apo_soup", "apo_soup/pages", "apo_soup/config", "apo_soup/runs", "apo_soup/models", "apo_soup/data",
    "apo_soup/verify",
    "apo_soup/training", "apo_soup/toy", "apo_soup/sweep",
    "sft", "apo", "apo/pairs", "apo/traces", "merge", "apo_soup/evals",
    "apo_soup/plan", "apo_soup/report", "apo_soup/export", "apo_soup/scaffold", "apo_soup/ui", "apo_soup/cli",
)  # fmt: skip


def first_sentence(module: Path) -> str:
    """The first sentence of a module's docstring, on one line."""
    told = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(told.split("\n\n")[0].split())
    return re.split(r"(?<=\.)\s", paragraph)[0].replace("|", "\\|")


def modules_of(room: str) -> list[Path]:
    """The modules of a room and of the folders in it that are no room of their own."""
    others = [ROOT / other for other in ROOMS if other.startswith(f"{room}/")]
    found = sorted((ROOT / room).rglob("*.py"))
    return [f for f in found if f.name != "__init__.py" and not any(o in f.parents for o in others)]


def file_list() -> str:
    """A heading and a table a room."""
    parts = []
    for room in ROOMS:
        lines = [f"### {room}/", "", first_sentence(ROOT / room / "__init__.py"), ""]
        lines += ["| file | what it does |", "|---|---|"]
        lines += [f"| `{m.relative_to(ROOT / room)}` | {first_sentence(m)} |" for m in modules_of(room)]
        parts.append("\n".join(lines))
    return "\n\n".join(parts)


if __name__ == "__main__":
    sys.exit(write_block(PAGE, "files", file_list, sys.argv[1:]))
