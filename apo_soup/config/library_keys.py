"""The keys a stage file may hold, read from the installed libraries' source without importing them.

TRL's configurations inherit from transformers' `TrainingArguments`; importing them costs seconds and loads torch. The
class bodies say all that a check needs (name, annotation, choices), so they are parsed instead, and always match the
version that will train.
"""

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from apo_soup.errors import UserError

# class name -> (package, file in it, base classes that hold further keys)
CLASSES = {
    "TrainingArguments": ("transformers", "training_args.py", ()),
    "_BaseConfig": ("trl", "trainer/base_config.py", ("TrainingArguments",)),
    "SFTConfig": ("trl", "trainer/sft_config.py", ("_BaseConfig",)),
    "DPOConfig": ("trl", "trainer/dpo_config.py", ("_BaseConfig",)),
    "ModelConfig": ("trl", "trainer/model_config.py", ()),
}


@dataclass(frozen=True)
class Key:
    """One configuration key: its annotation as written, its allowed values if the class lists them."""

    name: str
    annotation: str
    choices: tuple[str, ...] = ()


@cache
def keys_of(class_name: str) -> dict[str, Key]:
    """All keys of a configuration class and its bases, by name."""
    package, file, bases = CLASSES[class_name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"{package} is not installed; run `make setup`, or `pip install -e . -c constraints.txt`")
    source = Path(spec.submodule_search_locations[0]) / file
    keys: dict[str, Key] = {}
    for base in bases:
        keys |= keys_of(base)
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            for item in node.body:
                if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name) and _is_key(item):
                    keys[item.target.id] = Key(item.target.id, ast.unparse(item.annotation), _choices(item.value))
    return keys


def _is_key(item: ast.AnnAssign) -> bool:
    name = item.target.id
    init_off = isinstance(item.value, ast.Call) and any(
        k.arg == "init" and isinstance(k.value, ast.Constant) and k.value.value is False for k in item.value.keywords
    )
    return not name.startswith("_") and not init_off and "ClassVar" not in ast.unparse(item.annotation)


def _choices(value: ast.expr | None) -> tuple[str, ...]:
    """The `choices` entry of the field's metadata, when it is a list of plain strings."""
    if not isinstance(value, ast.Call):
        return ()
    for keyword in value.keywords:
        if keyword.arg == "metadata" and isinstance(keyword.value, ast.Dict):
            for key, entry in zip(keyword.value.keys, keyword.value.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "choices" and isinstance(entry, ast.List):
                    return tuple(e.value for e in entry.elts if isinstance(e, ast.Constant))
    return ()
