"""Paths of this machine in what goes to other people: taken out of texts, and looked for in files."""

import re
from pathlib import Path
from typing import Any

# A path from the root or the home on: two parts at least, behind nothing that would make it part of another word.
_PATH = re.compile(r"""(?<![\w.:/<~\\-])~?(?:/[^\s/"'`<>|&,;()\[\]{}\\:]+){2,}""")
_WINDOWS = re.compile(r"""\b[A-Za-z]:\\(?:[^\\\s"'`<>|]+\\)+[^\\\s"'`<>|]+""")
# The shortest place that a text is searched for: what lies above is everybody's.
_PARTS = 3


def short_path(text: str) -> str:
    """A path from the root or the home on as its last part; any other text as it is.

    >>> short_path("/home/me/rows.jsonl"), short_path("~/models/base"), short_path("data/rows.jsonl"), short_path("a/b")
    ('rows.jsonl', 'base', 'data/rows.jsonl', 'a/b')
    """
    return Path(text).name if text.startswith(("/", "~/")) or _WINDOWS.match(text) else text


def without_paths(text: str, roots: tuple[Path, ...] = ()) -> str:
    """A text with every path from the root on shortened: below one of `roots`, which are looked for first and may hold
    spaces, to what stands behind it; elsewhere to its last part.

    >>> without_paths("sft --model /home/me/base of owner/name, https://host/a/b")
    'sft --model base of owner/name, https://host/a/b'
    >>> without_paths("runs at /home/me/my work/runs/mine", (Path("/home/me/my work"),))
    'runs at runs/mine'
    """
    for root in sorted(map(str, roots), key=len, reverse=True):
        text = re.sub(rf"(?<![\w.]){re.escape(root)}/", "", text)
        text = re.sub(rf"(?<![\w.]){re.escape(root)}(?![\w-])", lambda m: Path(m[0]).name, text)
    for path in (_PATH, _WINDOWS):
        text = path.sub(lambda found: re.split(r"[/\\]", found[0])[-1], text)
    return text


def without_path_values(node: Any) -> Any:
    """A JSON value whose texts that are paths from the root on are their last part."""
    if isinstance(node, dict):
        return {key: without_path_values(value) for key, value in node.items()}
    if isinstance(node, list):
        return [without_path_values(value) for value in node]
    return short_path(node) if isinstance(node, str) and _is_path(node) else node


def _is_path(text: str) -> bool:
    return bool(_PATH.fullmatch(text) or _WINDOWS.fullmatch(text))


def machine_places(run: Path) -> tuple[Path, ...]:
    """The folders of this machine by which a text would tell of it: the run's, the one worked in, and the home."""
    found = (run.resolve(), Path.cwd(), Path.home())
    return tuple(dict.fromkeys(place for place in found if len(place.parts) >= _PARTS))


def place_told(content: bytes, places: tuple[Path, ...]) -> Path | None:
    """The first of some folders that a file's content names; None where it names none."""
    return next((place for place in places if str(place).encode() in content), None)
