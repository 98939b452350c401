"""YAML with the line of every key, by the safe loader."""

from pathlib import Path
from typing import Any

import yaml

from apo_soup.errors import UserError


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """A YAML mapping and the line of each of its keys (nested keys joined by dots, list items by number).

    Raises:
        UserError: the file is no YAML, no mapping, or gives a key twice.
    """
    text = path.read_text(encoding="utf-8")
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {error.problem or error.context}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of keys to values, got {type(values).__name__}")
    lines: dict[str, int] = {}
    _note_lines(tree, "", lines, path)
    return values, lines


def _note_lines(node: Any, prefix: str, lines: dict[str, int], path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            if name in lines:
                raise UserError(
                    f"{path}:{key.start_mark.line + 1}: {name}: the key is given twice (first on line {lines[name]}); "
                    "keep one"
                )
            lines[name] = key.start_mark.line + 1
            _note_lines(value, f"{name}.", lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            lines[f"{prefix}{number}"] = value.start_mark.line + 1
            _note_lines(value, f"{prefix}{number}.", lines, path)
