"""The reference of the stage files, from their models: tables for people, JSON schemas for editors.

    python -m apo_soup.config.reference tables docs/recipes.md    # between its marks
    python -m apo_soup.config.reference schema recipes/schema     # one file a kind

With `--check` nothing is written, and the exit code is 1 where something would change.
"""

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from apo_soup.config.base_model import BaseModelFile
from apo_soup.config.faulty_place import kind_word
from apo_soup.config.in_words import expectation, mappings_inside
from apo_soup.config.keys import MARKS, Said, has_mark
from apo_soup.config.load import KINDS, file_model
from apo_soup.config.recipe_file import RecipeFile
from apo_soup.config.renamed import RENAMED
from apo_soup.config.slurm import SlurmFile
from apo_soup.config.stage_file import Keys
from apo_soup.config.training import TrainingFile

# Keys that follow from a `recipe.yaml` beside the file.
FOLLOWING = ("output_dir", "model_name_or_path", "models")
BESIDE_STAGES: dict[str, type[Keys]] = {"recipe": RecipeFile, "slurm": SlurmFile}
KEYS_BLOCK = re.compile(r"(<!-- keys: (\w+) -->\n).*?(<!-- end of keys -->)", re.DOTALL)
SCHEMA = "https://json-schema.org/draft/2020-12/schema"


def model_of(kind: str) -> type[Keys]:
    """The typed model of a kind of stage file, of what they share, or of their jobs."""
    return BESIDE_STAGES[kind] if kind in BESIDE_STAGES else file_model(kind)


def own_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """The keys that this project declares; a training file's class is a child of them, with the libraries' added."""
    declaring = model.__mro__[1] if model.__mro__[1].__name__ == model.__name__ else model
    return dict(declaring.model_fields) if issubclass(declaring, BaseModel) else {}


def reference_rows(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Key, expected value, default and meaning of every declared key, nested ones behind what they stand in."""
    told_before: dict[tuple[type[BaseModel], ...], str] = {}
    for name, field in own_fields(model).items():
        if name == "kind":
            continue  # the word that a task's label holds
        inside = tuple(mappings_inside(field.annotation))
        listed = _listed(field.annotation)
        kind = expectation(field.annotation, list(field.metadata))
        if inside:
            said = [mark.words for mark in field.metadata if isinstance(mark, Said)]
            kind = said[0] if said else "a list of mappings" if listed else "a mapping"
            kind += f", its keys those of `{told_before[inside]}`" if inside in told_before else ""
        told = (field.description or "") + (" (makes no stage stale)" if has_mark(field, "cosmetic") else "")
        default = "required" if field.is_required() else _default(field.default)
        if not prefix and name in FOLLOWING and model is not BaseModelFile:
            default = "from `recipe.yaml`" if default == "-" else f"from `recipe.yaml`, else {default}"
        yield f"{prefix}{name}", kind, default, told
        if inside in told_before:
            continue
        told_before[inside] = name
        step = f"{prefix}{name}{'[]' if listed else ''}"
        shared = set.intersection(*(set(own_fields(m)) for m in inside)) - {"kind"} if len(inside) > 1 else set()
        for number, nested in enumerate(inside):
            label = f"{step}." if len(inside) == 1 else f"{step} ({kind_word(nested)})."
            for key, *rest in reference_rows(nested, label):
                is_shared = re.split(r"[.\[]", key.removeprefix(label))[0] in shared
                if not is_shared:
                    yield key, rest[0], rest[1], rest[2]
                elif number == 0:
                    yield f"{step}.{key.removeprefix(label)}", rest[0], rest[1], rest[2]


def _listed(kind: Any) -> bool:
    return get_origin(kind) is list or any(_listed(a) for a in get_args(kind) if get_origin(kind) is not dict)


def _default(value: Any) -> str:
    if value is None or value in ([], {}):
        return "-"
    if not isinstance(value, str):
        return f"`{json.dumps(value)}`"
    first, *more = value.splitlines()
    # A row of a table is one line.
    return f"`{first}`" + (f" and {len(more)} lines behind it" if more else "")


def table(model: type[BaseModel]) -> str:
    """A Markdown table of a model's keys."""
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    for cells in reference_rows(model):
        name, kind, default, told = (c.replace("|", "\\|") for c in cells)
        lines.append(f"| `{name}` | {kind} | {default} | {told} |")
    return "\n".join(lines)


def with_tables(text: str) -> str:
    """A page whose blocks `<!-- keys: KIND -->` hold today's tables."""
    return KEYS_BLOCK.sub(lambda m: f"{m[1]}{table(model_of(m[2]))}\n{m[3]}", text)


def schema(kind: str) -> dict[str, Any]:
    """The JSON schema of a kind of file; keys of older releases are in it as deprecated."""
    model = model_of(kind)
    found: dict[str, Any] = {"$schema": SCHEMA, **_without_marks(model.model_json_schema())}
    if model is not BaseModelFile:
        found["required"] = [name for name in found.get("required", []) if name not in FOLLOWING]
    if issubclass(model, TrainingFile):
        for old, (new, why) in RENAMED.items():
            told = f"read as {new} ({why})" if new else f"dropped ({why})"
            found["properties"][old] = {"deprecated": True, "description": told}
    return found


def _without_marks(node: Any) -> Any:
    """A schema without our own marks. Where nothing in it tells the members of a union apart, several may fit."""
    if isinstance(node, dict):
        several = "oneOf" in node and "discriminator" not in node
        return {"anyOf" if several and k == "oneOf" else k: _without_marks(v) for k, v in node.items() if k != MARKS}
    return [_without_marks(v) for v in node] if isinstance(node, list) else node


def main(words: list[str]) -> int:
    """Write, or with `--check` compare, the tables of a page or the schemas of a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m apo_soup.config.reference", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("what", choices=("tables", "schema"))
    parser.add_argument("place", type=Path, help="the page, or the folder of schemas")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where something would change")
    options = parser.parse_args(words)
    if options.what == "tables":
        wanted = {options.place: with_tables(options.place.read_text(encoding="utf-8"))}
    else:
        wanted = {
            options.place / f"{kind}.json": json.dumps(schema(kind), indent=1) + "\n"
            for kind in (*KINDS, *BESIDE_STAGES)
        }
    stale = [f for f, text in wanted.items() if not f.is_file() or f.read_text(encoding="utf-8") != text]
    for file in stale:
        print(f"{file}: {'differs from the models' if options.check else 'written'}")
        if not options.check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(wanted[file], encoding="utf-8")
    return 1 if stale and options.check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
