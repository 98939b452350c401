"""Every sentence about a row ends with what to do."""

import ast
from pathlib import Path

import pytest
from helpers import ROOT

FILES = (
    "channels content_blocks conversation converters dialects formats messages row_arguments tool_schemas turn_fields "
    "turn_order"
)


def sentences(file: Path) -> list[tuple[int, str]]:
    """The literal words of every RowError raised in a file, by line; names of variables are left out."""
    found = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "RowError" and node.args:
            words = [part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant)]
            names = [part.id for part in ast.walk(node.args[0]) if isinstance(part, ast.Name)]
            found.append((node.lineno, "".join(map(str, words)) + (";" if "remedy" in names else "")))
    return found


@pytest.mark.parametrize("name", FILES.split())
def test_every_row_error_says_what_to_do(name):
    told = sentences(ROOT / "apo_soup" / "data" / f"{name}.py")
    assert [f"{name}.py:{line}: {words}" for line, words in told if ";" not in words] == []
