"""The configuration classes of TRL and transformers as their source declares them, read without importing them.

TRL's configurations inherit from transformers' `TrainingArguments`; importing them costs seconds and loads torch. The
class bodies say all that a check needs (name, annotation, default, choices, help), so they are parsed instead, and
always match the version that will train.
"""

import ast
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError
from apo_soup.private import TRL_BASE_CONFIG

# class name -> (package, file in it, base classes that hold further keys)
CLASSES = {
    "TrainingArguments": ("transformers", "training_args.py", ()),
    TRL_BASE_CONFIG: ("trl", "trainer/base_config.py", ("TrainingArguments",)),
    "SFTConfig": ("trl", "trainer/sft_config.py", (TRL_BASE_CONFIG,)),
    "DPOConfig": ("trl", "trainer/dpo_config.py", (TRL_BASE_CONFIG,)),
    "ModelConfig": ("trl", "trainer/model_config.py", ()),
}
# Files of transformers that hold the enumerations of its keys' values.
ENUMERATIONS = ("trainer_utils.py", "training_args.py")
NO_DEFAULT = object()


@dataclass(frozen=True)
class LibraryKey:
    """One key as its class declares it: the annotation as written, the default where it is plain, choices, help."""

    name: str
    annotation: str
    default: Any = NO_DEFAULT
    choices: tuple[str, ...] = ()
    help: str = ""


@cache
def keys_of(class_name: str) -> dict[str, LibraryKey]:
    """All keys of a configuration class and its bases, by name; a class's own declaration wins over its bases'.

    Raises:
        UserError: the class's package is not installed.
    """
    package, file, bases = CLASSES[class_name]
    keys: dict[str, LibraryKey] = {}
    for base in bases:
        keys |= keys_of(base)
    for node in _classes(package, file):
        if node.name == class_name:
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and _is_key(item):
                    keys[item.target.id] = _declared(item.target.id, item)
    return keys


@cache
def enumerations() -> dict[str, tuple[str, ...]]:
    """The words of transformers' enumerations by class name, such as `SchedulerType`.

    Raises:
        UserError: transformers is not installed.
    """
    return {name: tuple(dict.fromkeys(words.values())) for name, words in enumeration_members().items()}


@cache
def enumeration_members() -> dict[str, dict[str, str]]:
    """The members of transformers' enumerations by class name, and the word that recipes write for each.

    Raises:
        UserError: transformers is not installed.
    """
    found = {}
    for file in ENUMERATIONS:
        for node in _classes("transformers", file):
            if "ExplicitEnum" in map(ast.unparse, node.bases):
                items = (item for item in node.body if isinstance(item, ast.Assign))
                values = {ast.unparse(item.targets[0]): _literal(item.value) for item in items}
                found[node.name] = {name: word for name, word in values.items() if isinstance(word, str)}
    return found


@cache
def class_members(package: str, file: str, name: str) -> dict[str, Any]:
    """What the body of a class of an installed package sets, by name, where it is plain: the words of an enumeration.

    Raises:
        UserError: the package is not installed.
    """
    items = (item for item in _class(package, file, name).body if isinstance(item, ast.Assign))
    values = {ast.unparse(item.targets[0]): _literal(item.value) for item in items}
    return {member: value for member, value in values.items() if value is not NO_DEFAULT}


@cache
def fields_of(package: str, file: str, name: str) -> tuple[str, ...]:
    """The fields of a dataclass of an installed package.

    Raises:
        UserError: the package is not installed.
    """
    items = (item for item in _class(package, file, name).body if isinstance(item, ast.AnnAssign))
    return tuple(ast.unparse(item.target) for item in items)


def _class(package: str, file: str, name: str) -> ast.ClassDef:
    return next(node for node in _classes(package, file) if node.name == name)


def _classes(package: str, file: str) -> list[ast.ClassDef]:
    """The classes that a file of an installed package declares."""
    return [node for node in source_tree(package, file).body if isinstance(node, ast.ClassDef)]


@cache
def source_tree(package: str, file: str) -> ast.Module:
    """The source of a file of an installed package.

    Raises:
        UserError: the package is not installed.
    """
    spec = PathFinder.find_spec(package)  # one that is kept from being imported is there
    if spec is None or not spec.submodule_search_locations:
        way = "run `make setup`, or `pip install -e . -c constraints.txt`"
        raise UserError(f"{package}: expected an installed package, got none; {way}")
    return ast.parse((Path(spec.submodule_search_locations[0]) / file).read_text(encoding="utf-8"))


def _is_key(item: ast.AnnAssign) -> bool:
    assert isinstance(item.target, ast.Name)
    init_off = isinstance(item.value, ast.Call) and any(
        k.arg == "init" and isinstance(k.value, ast.Constant) and k.value.value is False for k in item.value.keywords
    )
    return not item.target.id.startswith("_") and not init_off and "ClassVar" not in ast.unparse(item.annotation)


def _declared(name: str, item: ast.AnnAssign) -> LibraryKey:
    """A key from `name: annotation = field(default=..., metadata={"help": ..., "choices": [...]})`."""
    annotation, value = ast.unparse(item.annotation), item.value
    if not isinstance(value, ast.Call):
        return LibraryKey(name, annotation, _literal(value))
    default: Any = NO_DEFAULT
    metadata: dict[str, Any] = {}
    for keyword in value.keywords:
        if keyword.arg == "default":
            default = _literal(keyword.value)
        elif keyword.arg == "metadata" and isinstance(keyword.value, ast.Dict):
            pairs = zip(keyword.value.keys, keyword.value.values, strict=True)
            metadata = {str(k.value): _literal(v) for k, v in pairs if isinstance(k, ast.Constant)}
    choices = metadata.get("choices")
    words = tuple(c for c in choices if isinstance(c, str)) if isinstance(choices, list) else ()
    told = metadata.get("help")
    return LibraryKey(name, annotation, default, words, " ".join(told.split()) if isinstance(told, str) else "")


def _literal(node: ast.expr | None) -> Any:
    """The value of a plain expression, joined texts too; NO_DEFAULT for any other."""
    if node is None:
        return NO_DEFAULT
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return NO_DEFAULT
