"""Paths of this machine in what goes to other people: taken out of texts, and looked for in files."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from apo_soup.config.places import home_folder

# A part of a path in a text. One that another part follows may hold brackets and commas, which elsewhere end a path.
_LAST = r"""[^\s/"'`<>|&,;()\[\]{}\\:]+"""
_PART = r"""[^\s/"'`<>|&{}\\:]+"""
# From the root on, two parts at least; from a home on, one. Before it stands nothing that would make it part of another
# word, but for an option of one letter (-I/usr/include).
_PATH = re.compile(
    rf"(?:(?<![\w./<~\\-])|(?<=^-[A-Za-z])|(?<=\s-[A-Za-z]))"
    rf"(?:~(?:[A-Za-z_][\w.-]*)?(?:/{_PART}(?=/))*|(?:/{_PART}(?=/))+)/{_LAST}"
)
_ADDRESS = re.compile(r"""\bfile:/+[^\s"'`<>|]+""")
# With a drive, by either slash; and of a server.
_WINDOWS = re.compile(
    r"""(?<![\w/])[A-Za-z]:[\\/](?:[^\\/\s"'`<>|]+[\\/])+[^\\/\s"'`<>|]+"""
    r"""|(?<!\\)\\\\[\w.$-]+(?:\\[^\\\s"'`<>|]+){2,}"""
)
# The beginning of a value that is a path as a whole, whatever follows on its line: spaces, brackets, commas.
_BEGINNING = re.compile(r"(?:/[^\s/]+/|~(?:[A-Za-z_][\w.-]*)?/|file:/+|[A-Za-z]:[\\/](?![\\/])|\\\\[\w.$-]+\\)(?=.*\w)")
# Folders that hold people's own, with a name and a file below: nothing that a template has to name.
_SOMEBODYS = re.compile(r"(?<![\w./<~-])/(?:home|Users|mnt|media|Volumes|root|scratch)(?:/[\w.-]+){2,}")
# A place of fewer parts, such as /root, may be a word of other meaning: it is one only before a part of a path.
_PARTS = 3


def short_path(text: str) -> str:
    """A path from the root or the home on as its last part; any other text as it is.

    >>> short_path("/home/me/rows.jsonl"), short_path("~/models/base"), short_path("data/rows.jsonl"), short_path("a/b")
    ('rows.jsonl', 'base', 'data/rows.jsonl', 'a/b')
    >>> short_path("C:/Users/me/my models/base (1)"), short_path("file:///home/me/rows.jsonl"), short_path("/think")
    ('base (1)', 'rows.jsonl', 'think')
    """
    return _last_part(text) if text.startswith("/") or _is_path(text) else text


def _last_part(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]


def without_paths(text: str, roots: tuple[Path, ...] = ()) -> str:
    """A text with every path from the root on shortened: below one of `roots`, which are looked for first and may hold
    spaces, to what stands behind it; elsewhere to its last part.

    >>> without_paths("sft --model /home/me/base of owner/name, https://host/a/b")
    'sft --model base of owner/name, https://host/a/b'
    >>> without_paths("runs at /home/me/my work/runs/mine", (Path("/home/me/my work"),))
    'runs at runs/mine'
    >>> without_paths("source:/mnt/me/rows.jsonl, -I/opt/me/include, ~me/x and /think or /no_think")
    'source:rows.jsonl, -Iinclude, x and /think or /no_think'
    """
    for root in sorted(roots, key=lambda place: len(str(place)), reverse=True):
        named = re.escape(str(root))
        if len(root.parts) >= _PARTS:
            text = re.sub(rf"(?<![\w.]){named}/", "", text)
            text = re.sub(rf"(?<![\w.]){named}(?![\w-])", lambda m: Path(m[0]).name, text)
        else:
            text = re.sub(rf"{_beginning_of(root)}/", "", text)
    for path in (_ADDRESS, _WINDOWS, _PATH):
        text = path.sub(lambda found: _last_part(found[0]), text)
    return text


def without_path_values(node: Any, roots: tuple[Path, ...] = (), kept: Collection[str] = ()) -> Any:
    """A JSON value without paths, in keys and texts: a text that is one is its last part, another as `without_paths`
    has it. Keys that would then be one get their number. What stands below the keys `kept` is left as it is.

    >>> without_path_values({"base": "/home/me/my models/base", "template": "/a/b"}, kept=["template"])
    {'base': 'base', 'template': '/a/b'}
    >>> without_path_values({"d": 1, "/a/d": ["of /e/f"], "/b/d": 2})
    {'d': 1, 'd #2': ['of f'], 'd #3': 2}
    """
    if isinstance(node, dict):
        names = {key: _without_path(key, roots) for key in node}
        if len(set(names.values())) < len(names):
            names = {k: name if name == k else f"{name} #{n}" for n, (k, name) in enumerate(names.items(), 1)}
        return {names[k]: v if k in kept else without_path_values(v, roots, kept) for k, v in node.items()}
    if isinstance(node, list):
        return [without_path_values(value, roots, kept) for value in node]
    return _without_path(node, roots) if isinstance(node, str) else node


def _without_path(text: str, roots: tuple[Path, ...]) -> str:
    return _last_part(text) if _is_path(text) else without_paths(text, roots)


def _is_path(text: str) -> bool:
    return "\n" not in text and bool(_BEGINNING.match(text))


def texts_inside(node: Any) -> Iterator[str]:
    """Every key and every text of a JSON value."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key
            yield from texts_inside(value)
    elif isinstance(node, list):
        for value in node:
            yield from texts_inside(value)
    elif isinstance(node, str):
        yield node


def machine_places(run: Path) -> tuple[Path, ...]:
    """The folders of this machine by which a text would tell of it: the run's, the one worked in, and the home, each
    by the name that it is given and without links.
    """
    given = (run.absolute(), Path.cwd(), home_folder())
    found = [place for one in given if one for place in (one.resolve(), one)]
    return tuple(dict.fromkeys(place for place in found if len(place.parts) > 1))


def place_told(text: str, places: tuple[Path, ...]) -> Path | None:
    """The first of some folders that a text names; None where it names none.

    >>> place_told("{# /root/x #}", (Path("/root"),)), place_told("</root> or /root", (Path("/root"),))
    (PosixPath('/root'), None)
    """
    # The plain search first: it is quick where the text is a large vocabulary.
    return next((p for p in places if str(p) in text and re.search(_beginning_of(p), text)), None)


def _beginning_of(place: Path) -> str:
    """The expression that finds a place in a text."""
    named = re.escape(str(place))
    return rf"{named}(?![\w-])" if len(place.parts) >= _PARTS else rf"(?<![\w./<~]){named}(?=/[\w.~-])"


def somebodys_path(text: str) -> str | None:
    """The first path in a text below a folder that holds people's own, such as /home; None where there is none.

    >>> somebodys_path("{# see /mnt/team/x.jinja #}"), somebodys_path("/think, </home>, https://host/home/a/b")
    ('/mnt/team/x.jinja', None)
    """
    found = _SOMEBODYS.search(text)
    return found[0] if found else None
