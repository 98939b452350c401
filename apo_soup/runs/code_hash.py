"""Hashes of the project's own code, for what must be made again when the code that made it changes."""

import ast
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
# Fields of a statement that hold statements, or the clauses that do.
BODIES = {"body", "orelse", "handlers", "finalbody", "cases"}
# A literal, kept as it is, or a comment. This code's f-strings hold no quotes of their own kind, as Python 3.11 wants.
LITERAL_OR_COMMENT = re.compile(
    r'"""(?:\\.|[^\\])*?"""|' r"'''(?:\\.|[^\\])*?'''|" r'"(?:\\.|[^"\\\n])*"|' r"'(?:\\.|[^'\\\n])*'|" r"#[^\n]*",
    re.DOTALL,
)


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
    file = _file(module)
    if file is None:
        raise ModuleNotFoundError(f"no module {module} lies in {PROJECT}")
    source = file.read_text()
    statements = all_statements(ast.parse(source))
    return deciding_text(source, statements), list(_imported(statements))


def deciding_text(source: str, statements: list[ast.stmt]) -> str:
    """A module's source without comments, docstrings and empty lines. It is cut as text: a syntax tree is written in
    another way by every version of Python, and rows made by one would be stale under the next.

    Args:
        statements: all those of the source.
    """
    lines = source.splitlines(keepends=True)
    texts = [n for n in statements if isinstance(n, ast.Expr) and isinstance(n.value, ast.Constant)]
    for node in sorted(texts, key=lambda n: (n.lineno, n.col_offset), reverse=True):
        first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1
        # A syntax tree counts in bytes of UTF-8.
        before = lines[first].encode()[: node.col_offset].decode()
        after = lines[last].encode()[node.end_col_offset :].decode()
        lines[first : last + 1] = [before + after]
    code = LITERAL_OR_COMMENT.sub(lambda found: "" if found[0].startswith("#") else found[0], "".join(lines))
    return "\n".join(line.rstrip() for line in code.splitlines() if line.strip())


@cache
def _file(module: str) -> Path | None:
    """Where a module lies; None for a name that is none, such as that of something in a module."""
    path = PROJECT / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return file if file.is_file() else None


def _imported(statements: list[ast.stmt]) -> Iterator[str]:
    """The modules of this project that are imported, with the packages they lie in. What is named behind `from` may be
    a module, or something in one.
    """
    for node in statements:
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for parts in (name.split(".") for name in names if name.partition(".")[0] in OUR_PACKAGES):
            yield from (m for m in (".".join(parts[: n + 1]) for n in range(len(parts))) if _file(m))


def all_statements(tree: ast.Module) -> list[ast.stmt]:
    """All statements of a module, at any depth, but those that only a type checker reads."""
    found: list[ast.stmt] = []
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.stmt):
            found.append(node)
        typing_only = isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for field in node._fields:
            if field in BODIES and not (typing_only and field == "body"):
                waiting += getattr(node, field)
    return found
