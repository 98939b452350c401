"""The project's own code as text: its files, and which of its errors leave which function: those that it raises, and
those that leave what it calls by name. What is called through a variable is not seen.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from helpers import ROOT

PACKAGES = ("apo_soup", "sft", "apo", "merge")
Key = tuple[str, str]  # a module, and a function or `Class.method` of it
Function = ast.FunctionDef | ast.AsyncFunctionDef
_LATER = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_LEAVES = (ast.Name, ast.Constant, ast.expr_context)
Way = tuple[str | Key, frozenset[str]]  # an error's name or a called function, and what is caught around it


def sources(*folders: str) -> list[Path]:
    """The Python files of these folders."""
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


@cache
def tree_of(file: Path) -> ast.Module:
    """What a file holds, parsed once."""
    return ast.parse(file.read_text())


def module_name(file: Path) -> str:
    """The name by which a file is imported."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def is_command(decorator: ast.expr) -> bool:
    """Whether a function so decorated is a command of the console script, which is named like what it runs."""
    return ast.unparse(decorator).startswith("app.command(")


@dataclass
class Code:
    """Modules, and the functions, classes and imports that stand in them."""

    functions: dict[Key, Function] = field(default_factory=dict)
    classes: dict[Key, ast.ClassDef] = field(default_factory=dict)
    imports: dict[str, dict[str, Key]] = field(default_factory=dict)

    def add(self, module: str, tree: ast.Module) -> None:
        """A module by its name."""
        self.imports[module] = dict(_imported(tree))
        for node in tree.body:
            if isinstance(node, Function):
                self.functions[module, node.name] = node
            elif isinstance(node, ast.ClassDef):
                self.classes[module, node.name] = node
                methods = (m for m in node.body if isinstance(m, Function))
                self.functions.update({(module, f"{node.name}.{m.name}"): m for m in methods})

    @cached_property
    def errors(self) -> dict[str, frozenset[str]]:
        """Exception classes by name, each with the names of its bases and its own."""
        bases = {node.name: [ast.unparse(base) for base in node.bases] for node in self.classes.values()}
        found: dict[str, frozenset[str]] = {}

        def line(name: str) -> frozenset[str]:
            return frozenset({name}).union(*(line(base) for base in bases.get(name, ())))

        for name in bases:
            if line(name) & {"Exception", "ValueError"}:
                found[name] = line(name)
        return found

    @cached_property
    def ways_out(self) -> dict[Key, list[Way]]:
        """The errors that each function raises and the functions that it calls."""
        return {key: list(self._ways_out(key, function)) for key, function in self.functions.items()}

    def leaving(self, through: Callable[[Key], bool] = lambda _: True) -> dict[Key, set[str]]:
        """The errors that leave each function, those that it raises and those `through` functions that it calls."""
        ways = {
            key: [(what, caught) for what, caught in ways if isinstance(what, str) or through(what)]
            for key, ways in self.ways_out.items()
        }
        leaving: dict[Key, set[str]] = {key: set() for key in ways}
        changed = True
        while changed:
            changed = False
            for key, parts in ways.items():
                told = ((what,) if isinstance(what, str) else leaving[what] for what, _ in parts)
                now = {
                    name
                    for names, (_, caught) in zip(told, parts, strict=True)
                    for name in names
                    if not self.errors[name] & caught
                }
                changed |= now != leaving[key]
                leaving[key] = now
        return leaving

    def _ways_out(self, key: Key, function: Function) -> Iterator[Way]:
        for node, caught in _nodes(function.body, frozenset()):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call | ast.Name):
                made = getattr(node.exc, "func", node.exc)
                maker = self._meant(key, made)
                returned = getattr(self.functions.get(maker) if maker else None, "returns", None)
                name = ast.unparse(returned if returned is not None else made)
                if name in self.errors:
                    yield name, caught
            elif isinstance(node, ast.Call):
                if meant := self._meant(key, node.func):
                    yield meant, caught
            elif isinstance(node, ast.Attribute) and (meant := self._meant(key, node)) and self._is_property(meant):
                yield meant, caught

    def _meant(self, key: Key, called: ast.expr) -> Key | None:
        """The function that a name, or a name behind a dot, means inside of another one."""
        module, inside = key[0], key[1].rpartition(".")[0]
        match called:
            case ast.Name(id=name):
                found = self._home(module, name)
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                return self.method((module, inside), name)
            case ast.Attribute(value=ast.Call(func=ast.Name(id="super")), attr=name):
                return self.inherited((module, inside), name)
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                home = self._home(module, owner)
                if home in self.classes:
                    return self.method(home, name)
                found = (".".join(home), name)
            case _:
                return None
        if found in self.classes:
            return self.method(found, "__init__")
        return found if found in self.functions else None

    def method(self, home: Key, name: str) -> Key | None:
        """The method of a class, its own or inherited from another one here."""
        own = (home[0], f"{home[1]}.{name}")
        return own if own in self.functions else self.inherited(home, name)

    def inherited(self, home: Key, name: str) -> Key | None:
        """The method that a class overrides, or would."""
        bases = self.classes[home].bases if home in self.classes else []
        found = (self.method(self._home(home[0], ast.unparse(base)), name) for base in bases)
        return next((method for method in found if method), None)

    def _is_property(self, key: Key) -> bool:
        return any("property" in ast.unparse(each) for each in self.functions[key].decorator_list)

    def _home(self, module: str, name: str) -> Key:
        return self.imports[module].get(name, (module, name))


def _imported(tree: ast.Module) -> Iterator[tuple[str, Key]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((alias.asname or alias.name, (node.module, alias.name)) for alias in node.names)


def _nodes(body: list[ast.AST], caught: frozenset[str]) -> Iterator[tuple[ast.AST, frozenset[str]]]:
    """What runs when a function does, each part with the exceptions that are caught around it; functions that it
    defines run later.
    """
    waiting = [(node, caught) for node in body]
    while waiting:
        node, caught = waiting.pop()
        if isinstance(node, _LATER):
            continue
        yield node, caught
        children: Iterator[ast.AST] | list[Any] = ast.iter_child_nodes(node)
        if isinstance(node, ast.Try):
            inside = caught.union(*map(_caught, node.handlers))
            waiting += [(part, inside) for part in node.body]
            children = [*node.handlers, *node.orelse, *node.finalbody]
        elif isinstance(node, ast.With):
            inside = caught.union(*(_suppressed(item.context_expr) for item in node.items))
            waiting += [(part, inside) for part in node.body]
            children = node.items
        waiting += [(part, caught) for part in children if not isinstance(part, _LEAVES)]


def _caught(handler: ast.ExceptHandler) -> set[str]:
    """The names that a handler catches and keeps."""
    if any(isinstance(node, ast.Raise) and node.exc is None for node in ast.walk(handler)):
        return set()
    if handler.type is None:
        return {"Exception"}
    return {ast.unparse(kind) for kind in getattr(handler.type, "elts", [handler.type])}


def _suppressed(manager: ast.expr) -> set[str]:
    if isinstance(manager, ast.Call) and ast.unparse(manager.func) == "suppress":
        return {ast.unparse(kind) for kind in manager.args}
    return set()
