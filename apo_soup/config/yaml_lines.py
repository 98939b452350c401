"""YAML with the line of every key, by the safe loader."""

import copy
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from apo_soup.config.yaml_mistakes import yaml_mistake
from apo_soup.errors import UserError

# Keys and items of a stage file, at most. Nested aliases can stand for more of them than a machine can count.
MOST_PLACES = 100_000
MERGE_TAG = "tag:yaml.org,2002:merge"
TYPE_OF_DOCUMENT = {list: "a list", type(None): "nothing"}


class _Lookalike(yaml.constructor.ConstructorError):
    """A value that looks like one of YAML's types and is none of its values."""


class _Loader(yaml.SafeLoader):
    """The safe loader, which says of every value that it cannot read where it stands."""

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, KeyError, IndexError, AttributeError) as error:
            # What yaml takes for a number or a date by its looks, such as 2024-13-45.
            kind = str(node.tag).rpartition(":")[2]
            told = f"{str(node.value)[:60]!r}, which looks like YAML's {kind} and is none; put quotes around it"
            raise _Lookalike(None, None, told, node.start_mark) from error

    def construct_yaml_int(self, node: Any) -> int:
        """A whole number, unless YAML 1.1 reads another one than people do: 010 as 8, 1:30 as 90."""
        value: int = super().construct_yaml_int(node)
        digits = node.value.replace("_", "").lstrip("+-")
        if ":" in digits or (digits.isdecimal() and int(digits) != abs(value)):
            told = f"{node.value!r}, which YAML reads as {value}; put quotes around it, or write {value}"
            raise _Lookalike(None, None, told, node.start_mark)
        return value


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def read_value(text: str) -> Any:
    """A value of the command line, read as YAML; what is no YAML is text."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError):
        return text


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """A YAML mapping and the line of each of its keys (nested keys joined by dots, list items by number).

    Raises:
        UserError: the file cannot be read, is no YAML, no mapping, or gives a key twice.
    """
    values, lines = _parsed(path, _text_of(path))
    return copy.deepcopy(values), dict(lines)


# A command asks for the same few files again and again, and to parse one takes some ten milliseconds.
@functools.lru_cache(maxsize=128)
def _parsed(path: Path, text: str) -> tuple[dict[str, Any], dict[str, int]]:
    """What `read_yaml` returns of a text, not to be changed; `path` is for sentences."""
    lines: dict[str, int] = {}
    try:
        loader = _Loader(text)
        try:
            tree = loader.get_single_node()
            _note_lines(tree, "", lines, path)
            values = loader.construct_document(tree) if tree is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        number, told = yaml_mistake(error, text)
        got, _, way = (str(error.problem) if isinstance(error, _Lookalike) else told).partition("; ")
        line = f":{number}" if number else ""
        raise UserError(f"{path}{line}: expected valid YAML, got {got}; {way}") from None
    except yaml.reader.ReaderError as error:
        line = f":{text.count(chr(10), 0, error.position) + 1}"
        raise UserError(
            f"{path}{line}: expected valid YAML, got the control character {error.character:#04x}; remove it"
        ) from None
    except RecursionError:
        raise UserError(
            f"{path}: expected YAML of a few levels, got hundreds, or an anchor that holds itself; write it flatter"
        ) from None
    if not isinstance(values, dict):
        got = TYPE_OF_DOCUMENT.get(type(values), f"the single value {str(values)[:60]!r}")
        raise UserError(f"{path}: expected a mapping of keys to values, got {got}; write `key: value` lines")
    return values, lines


def _text_of(path: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark."""
    try:
        content = path.read_bytes()
    except OSError as error:
        told = f"expected a file that can be read, got {error.strerror}; check its permissions"
        raise UserError(f"{path}: {told}") from error
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path}:{line}: expected text in UTF-8, got the byte {content[error.start]:#04x}; save the file as UTF-8"
        ) from None


def _note_lines(node: Any, prefix: str, lines: dict[str, int], path: Path) -> None:
    """Note the line of every key and item below a node. What a merge key `<<` brings in stands where it was written."""
    if len(lines) > MOST_PLACES:
        raise UserError(f"{path}: expected at most {MOST_PLACES:,} keys, got more; write fewer aliases of aliases")
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            name = f"{prefix}{_spoken(key)}"
            if name in seen:
                raise UserError(
                    f"{path}:{key.start_mark.line + 1}: {name}: expected the key once, got it twice (first on line "
                    f"{seen[name]}); keep one"
                )
            seen[name] = lines[name] = key.start_mark.line + 1
            _note_lines(value, f"{name}.", lines, path)
        for merged in _merged(node):
            brought: dict[str, int] = {}
            _note_lines(merged, prefix, brought, path)
            lines |= {name: line for name, line in brought.items() if name not in lines}
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            lines[f"{prefix}{number}"] = value.start_mark.line + 1
            _note_lines(value, f"{prefix}{number}.", lines, path)


def _merged(node: yaml.MappingNode) -> Iterator[yaml.Node]:
    """The mappings that a mapping's merge key brings in; the first one wins."""
    for key, value in node.value:
        if key.tag == MERGE_TAG:
            yield from value.value if isinstance(value, yaml.SequenceNode) else [value]


def _spoken(key: Any) -> str:
    """A key as sentences write it: YAML's several words for true, false and null are one."""
    kind = str(key.tag).rpartition(":")[2]
    if kind == "null":
        return "null"
    if kind == "bool":
        return str(yaml.SafeLoader.bool_values[key.value.lower()]).lower()
    return str(key.value)
