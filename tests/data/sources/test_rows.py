"""Every sentence about a row ends with what to do."""

import ast
from pathlib import Path

import pytest
from helpers import ROOT

ROOMS = ("conversations", "sources", "rendering")
FILES = [file for room in ROOMS for file in sorted((ROOT / "apo_soup" / "data" / room).glob("*.py"))]


def sentences(file: Path) -> list[tuple[int, str]]:
    """The literal words of every RowError raised in a file, by line; names of variables are left out."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "RowError" and node.args:
            words = [part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)]
            names = [part.id for part in ast.walk(node.args[0]) if isinstance(part, ast.Name)]
            if not words:
                continue  # a sentence that was made elsewhere
            found.append((node.lineno, "".join(map(str, words)) + (";" if "remedy" in names else "")))
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_row_error_says_what_to_do(file):
    assert [f"{file.name}:{line}: {words}" for line, words in sentences(file) if ";" not in words] == []
