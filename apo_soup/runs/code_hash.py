"""Hashes of the project's own code, for what must be made again when the code that made it changes."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from apo_soup.hashing import hash_value

# Where the packages of this project lie side by side: a checkout, or site-packages.
PROJECT = Path(__file__).parents[2]
OUR_PACKAGES = ("apo_soup", "sft", "apo", "merge")
# What these decide stands beside the code's hash, as values and hashes of files, or is only seen on a screen.
ASIDE = ("apo_soup.config", "apo_soup.runs", "apo_soup.errors", "apo_soup.progress", "apo_soup.tables")
# Code, a comment, a bracket or a text. This code's f-strings hold no quotes of their own kind, as Python 3.11 wants.
PIECE = re.compile(
    r'[^"\'#()\[\]{}]+|(?P<comment>#[^\n]*)|(?P<opens>[(\[{])|(?P<closes>[)\]}])|(?P<text>'
    r'"""(?:\\.|[^\\])*?"""|'
    r"'''(?:\\.|[^\\])*?'''|"
    r'"(?:\\.|[^"\\\n])*"|'
    r"'(?:\\.|[^'\\\n])*')",
    re.DOTALL,
)
# What stands beside a text that is a statement of its own, a docstring: nothing, or the letters that say its kind.
STATEMENT_BEGINS, STATEMENT_ENDS = re.compile(r"(?:^|[\n;])[ \t]*([rRbBuU]{0,2})$"), re.compile(r"[ \t]*(?:[\n;#]|$)")
IMPORT = re.compile(r"^[ \t]*(?:from[ ]+(?P<package>[\w.]+)[ ]+)?import[ ]+(?P<names>\([^)]*\)|[^\n;]*)", re.MULTILINE)
ONLY_FOR_TYPES = re.compile(r"^([ \t]*)if TYPE_CHECKING:\n(?:\1[ \t]+[^\n]*\n?)+", re.MULTILINE)


def code_hash(entry: str) -> str:
    """Hash of the code that a module runs: its own, and that of all modules of this project that it imports, directly
    or not, inside functions too. Comments, docstrings and empty lines leave it as it is, and so do recipes' keys,
    stage folders and progress lines, which make nothing themselves.

    Args:
        entry: the module that is run, by its dotted name; a caller gives its own `__name__`.
    """
    return hash_value({name: _read(name)[0] for name in sorted(modules_run(entry))})


def modules_run(entry: str) -> set[str]:
    """The dotted names of the modules whose code `code_hash` takes for an entry."""
    found: set[str] = set()
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name not in found and not any(name == room or name.startswith(f"{room}.") for room in ASIDE):
            found.add(name)
            waiting += _read(name)[1]
    return found


@cache
def _read(module: str) -> tuple[str, list[str]]:
    """A module's `deciding_text`, and the modules of this project that it imports; a program asks more than once."""
    file = module_file(module)
    if file is None:
        raise ModuleNotFoundError(f"no module {module} lies in {PROJECT}")
    text, bare = deciding_text(file.read_text(encoding="utf-8"))
    return text, list(imported(bare))


def deciding_text(source: str) -> tuple[str, str]:
    """A module's source without comments, docstrings and empty lines; and the same with every text in it empty. It is
    cut as text: a syntax tree takes twice as long, and is written in another way by every version of Python, so
    that rows made by one would be stale under the next.
    """
    parts: list[str] = []
    bare: list[str] = []
    place = depth = 0
    for found in PIECE.finditer(source):
        kind = found.lastgroup
        if kind == "opens":
            depth += 1
        elif kind == "closes":
            depth -= 1
        elif kind:
            start, end = found.span()
            alone = None if kind == "comment" or depth else _alone(source, start, end)
            before = source[place : start if alone is None else alone]
            kept = kind == "text" and alone is None
            parts += (before, found[0]) if kept else (before,)
            bare += (before, '""') if kept else (before,)
            place = end
    parts.append(source[place:])
    bare.append(source[place:])
    return _without_empty_lines("".join(parts)), _without_empty_lines("".join(bare))


def _alone(source: str, start: int, end: int) -> int | None:
    """Where a text outside of brackets begins, its letters included, if it is a statement."""
    line = max(0, source.rfind("\n", 0, start))
    before = STATEMENT_BEGINS.search(source, line, start)
    return before.start(1) if before and STATEMENT_ENDS.match(source, end) else None


def _without_empty_lines(code: str) -> str:
    return "\n".join(line.rstrip() for line in code.splitlines() if line.strip())


@cache
def module_file(module: str) -> Path | None:
    """Where a module lies; None for a name that is none, such as that of something in a module."""
    path = PROJECT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file if file.is_file() else None


def imported(code: str) -> Iterator[str]:
    """The modules of this project that code, its texts empty, imports, with the packages they lie in. What is named
    behind `from` may be a module, or something in one. What only a type checker reads is passed over.
    """
    for found in IMPORT.finditer(ONLY_FOR_TYPES.sub("", code)):
        package = f"{found['package']}." if found["package"] else ""
        names = [name.split()[0] for name in found["names"].strip("()").split(",") if name.strip()]
        for parts in (f"{package}{name}".split(".") for name in names):
            if parts[0] in OUR_PACKAGES:
                yield from (m for m in (".".join(parts[: n + 1]) for n in range(len(parts))) if module_file(m))
