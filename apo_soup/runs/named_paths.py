"""The files and folders that the keys of a stage file name, and that are there."""

import glob
from collections.abc import Iterator
from pathlib import Path

from apo_soup.config.keys import has_mark
from apo_soup.config.stage_file import StageFile, nested


def named_paths(recipe: StageFile) -> Iterator[tuple[str, Path]]:
    """Dotted keys of what a file reads, each with the file or folder that is there; a pattern has several."""
    for name, keys in nested(recipe):
        for field, declared in type(keys).model_fields.items():
            if has_mark(declared, "path") and keys.gives(field):
                for key, text in _texts(f"{name}.{field}" if name else field, keys.__dict__[field]):
                    yield from ((key, path) for path in _paths(text))


def _texts(key: str, value: object) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _texts(f"{key}.{number}", each)
    elif isinstance(value, dict):
        for name, each in value.items():
            yield from _texts(f"{key}.{name}", each)


def _paths(text: str) -> list[Path]:
    """What a path or pattern leads to; nothing for other text, such as a template or an id of the Hub."""
    try:
        path = Path(text).expanduser()
        return [path] if path.exists() else [Path(found) for found in glob.iglob(str(path), recursive=True)]
    except (OSError, ValueError, RuntimeError):  # too long for a name, no name at all, a home nobody has
        return []
