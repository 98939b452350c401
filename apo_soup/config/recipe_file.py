"""`recipe.yaml`: what the stage files beside it have in common, once: the run's name, its base model, its template.

Where it lies beside a stage file, the file may leave out `output_dir`, `model_name_or_path` and `chat_template`, and an
eval file its `models`; and it may name what another stage makes by the stage: `mid`, `apo/*`, `data/rows.jsonl`. What
follows is what one would write without it, so a folder that was made so is up to date.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from apo_soup.config.file_names import file_name_fault
from apo_soup.config.given import Given
from apo_soup.config.in_words import as_written
from apo_soup.config.keys import Text, has_mark, key
from apo_soup.config.kinds import stage_name, stage_of_file
from apo_soup.config.problems import in_file_order, unknown_key
from apo_soup.config.stage_file import Fault, Keys, StageFile, nested
from apo_soup.config.typed_keys import typed_keys
from apo_soup.config.yaml_lines import read_yaml
from apo_soup.errors import UserError, told_together

RECIPE_FILE = "recipe.yaml"
# A model that a stage of the run makes, the adapter in it too, by the name of its file or folder.
_MODEL = re.compile(r"(extend|mid|sft|soup|merged|apo/(\d+(-at-[\d.]+)?|\*))(/adapter)?")
_ROWS = ("data", "pairs", "traces")
# The file that makes a folder of another name, and the stage whose model another begins with.
_FILE_OF = {"soup": "merge", "merged": "merge"}
_BEGINS_WITH = {"mid": "extend", "sft": "mid", "apo": "sft"}
# What begins with the base model where the recipe has no stage before it.
_FIRST = ("extend", "mid")


class RecipeFile(Keys):
    """What the stage files of a folder have in common."""

    name: Text = key(meaning="name of the run: its stages lie in `runs/NAME`")
    model: Text | None = key(
        None,
        "the base model, a folder or an id of the Hub: what the first stage begins with, and `base` in other files",
    )
    chat_template: Text | None = key(
        None, "as in the stage files: of mid, sft and eval, and of apo where that begins with the base model"
    )
    claims: Literal["smollm3"] | None = key(
        None,
        "what the report asks of the run beside its own gains: `smollm3`, what the makers of SmolLM3 reported",
    )

    def faults(self) -> Iterator[Fault]:
        name = self.name or ""  # none where it is wrong itself
        fault = file_name_fault(name)
        if fault:
            yield Fault("name", fault)
        elif not name or name != Path(name).name or name.startswith((".", "~", "-")):
            told = "expected a name that a folder in runs/ can have, without / and no . - or ~ before it, got "
            yield Fault("name", f"{told}{as_written(name)}; write one such as mine")
        if self.model == "":
            yield Fault("model", "expected a folder or an id of the Hub, got none; name one, or leave the key out")


@dataclass(frozen=True)
class SharedKeys:
    """A recipe's shared keys, and the file that gives them."""

    given: Given
    keys: RecipeFile

    @property
    def folder(self) -> Path:
        """The recipe's."""
        return self.given.path.parent

    @property
    def run(self) -> str:
        """The folder of the run."""
        return f"runs/{self.keys.name}"

    def has(self, stage: str) -> bool:
        """Whether the recipe has the file that makes a stage's folder."""
        return (self.folder / f"{_FILE_OF.get(stage, stage)}.yaml").is_file()

    def output(self, stage: str) -> str:
        """The folder that a stage makes: what its file says, else below the run's by its name."""
        name = _FILE_OF.get(stage, stage)
        file = self.folder / f"{name}.yaml"
        try:
            asked = read_yaml(file)[0].get("output_dir") if file.is_file() else None
        except UserError:  # which its own program tells
            asked = None
        if not isinstance(asked, str) or not asked:
            return f"{self.run}/{stage}"
        return f"{asked}/{stage}" if name == "merge" else asked

    def named(self, text: str) -> str:
        """What a name of a stage stands for; any other text as it is."""
        if text == "base" and self.keys.model is not None:
            return self.keys.model
        first, slash, rest = text.partition("/")
        rows = bool(rest) and first in _ROWS and self.has(first)
        return f"{self.output(first)}{slash}{rest}" if rows or _MODEL.fullmatch(text) else text


def shared_keys(folder: Path) -> SharedKeys | None:
    """The keys of the `recipe.yaml` in a folder; None where there is none.

    Raises:
        UserError: with everything that is wrong with it.
    """
    file = folder / RECIPE_FILE
    if not file.is_file():
        return None
    given = Given.from_file(file, [])
    known = list(RecipeFile.model_fields)
    keys, problems = typed_keys(RecipeFile, given, lambda name: unknown_key(given, name, known), commanded=False)
    if problems:
        raise told_together(in_file_order(problems))
    return SharedKeys(given, keys)


def given_with_shared(file: Path, kind: str, overrides: Sequence[str] = (), options: Sequence[str] = ()) -> Given:
    """A stage file's keys over those that follow from the `recipe.yaml` beside it, with `--key value` words over both.

    Raises:
        UserError: either file cannot be read, `recipe.yaml` is wrong, or a word is no key.
    """
    shared = shared_keys(file.parent)
    if shared is None or kind == "base":
        return Given.from_file(file, list(overrides), options)
    given = Given.from_file(file, [], options)
    _lay_defaults_under(given, kind, shared)
    given.lay_over(list(overrides))
    given.words = list(overrides)
    if shared.keys.chat_template is not None and _takes_template(given, kind, shared):
        _lay_under(given, "chat_template", shared.keys.chat_template, shared, "chat_template")
    return given


def given_unread(file: Path, kind: str) -> Given:
    """The keys of a stage file that cannot be read: those that follow from the `recipe.yaml` beside it.

    Raises:
        UserError: `recipe.yaml` is wrong.
    """
    given, shared = Given(file, {}), shared_keys(file.parent)
    if shared is not None:
        _lay_defaults_under(given, kind, shared)
    return given


def _lay_defaults_under(given: Given, kind: str, shared: SharedKeys) -> None:
    for name, (value, source) in _defaults(given, kind, shared).items():
        _lay_under(given, name, value, shared, source)


def _lay_under(given: Given, name: str, value: Any, shared: SharedKeys, source: str) -> None:
    if name not in given.values:
        given.values[name] = value
        if source:
            given.places[f"{name}.base" if name == "models" else name] = (shared.given.where(source), source)


def _defaults(given: Given, kind: str, shared: SharedKeys) -> dict[str, tuple[Any, str]]:
    """The keys that follow, each with its value and the key of `recipe.yaml` that a sentence about it names: none where
    it is the folder's other files that it follows from.
    """
    found: dict[str, tuple[Any, str]] = {}
    stage, base = stage_name(given.path), shared.keys.model
    if stage_of_file(given.path) == kind:
        # Another file of a stage, such as sft_long.yaml, must not replace what the first one makes.
        run = shared.run + given.path.stem.removeprefix(stage)
        folders = {"merge": run, "eval": f"{run}/evals", "sweep": f"{run}/settings"}
        found["output_dir"] = (folders.get(kind, f"{run}/{stage}"), "name")
    elif kind == "eval":  # another suite of the run, such as the one of a sweep
        found["output_dir"] = (f"{shared.run}/evals-{given.path.stem}", "name")
    before = _BEGINS_WITH.get(stage)
    if before is not None and (stage not in _FIRST or shared.has(before)):
        found["model_name_or_path"] = (shared.output(before), "")
    elif stage in _FIRST and base is not None:
        found["model_name_or_path"] = (base, "model")
    if kind == "eval" and "endpoint" not in given.values:
        models = ({} if base is None else {"base": base}) | _models_made(shared)
        if models:
            found["models"] = (models, "model" if "base" in models else "")
    return found


def _models_made(shared: SharedKeys) -> dict[str, str]:
    """The models that the recipe's files make, by the names of their stages; of apo all members."""
    made = {stage: shared.output(stage) for stage in ("extend", "mid", "sft", "apo") if shared.has(stage)}
    if "apo" in made:
        made["apo"] += "/*"
    try:
        merge = read_yaml(shared.folder / "merge.yaml")[0] if shared.has("merged") else {}
    except UserError:  # which its own program tells
        merge = {}
    asked = {"soup": "soup", "merged": "merge"}
    return made | {stage: shared.output(stage) for stage, name in asked.items() if merge.get(name) is not None}


def _takes_template(given: Given, kind: str, shared: SharedKeys) -> bool:
    """Whether a file renders with the recipe's template: what a stage of the run has made brings its own along."""
    if kind == "apo":
        return shared.named(str(given.values.get("model_name_or_path"))) == shared.keys.model
    return kind == "sft" or (kind == "eval" and given.values.get("engine") != "openai")


def name_stages(recipe: StageFile, shared: SharedKeys) -> None:
    """Put what a stage makes in the place of its name, in every key that names a file or folder. A note tells where a
    file or folder has the same name.
    """
    for name, keys in nested(recipe):
        for field, declared in type(keys).model_fields.items():
            if has_mark(declared, "path") and field != "chat_template" and keys.gives(field):
                dotted = f"{name}.{field}" if name else field
                keys.__dict__[field] = _with_stages(recipe, dotted, keys.__dict__[field], shared)


def _with_stages(recipe: StageFile, name: str, value: Any, shared: SharedKeys) -> Any:
    if isinstance(value, list):
        return [_with_stages(recipe, f"{name}.{n}", v, shared) for n, v in enumerate(value)]
    if isinstance(value, dict):
        return {k: _with_stages(recipe, f"{name}.{k}", v, shared) for k, v in value.items()}
    named = shared.named(value) if isinstance(value, str) and not recipe.follows(name) else value
    if named == value or file_name_fault(named):  # the file that makes it tells of its name
        return named
    same = next((path for path in (shared.folder / value, Path(value)) if _is_rows_or_model(path)), None)
    meant = {path.resolve() for path in (shared.folder / named, Path(os.path.expanduser(named)))}
    if same is not None and same.resolve() not in meant:
        recipe.notes.append(f"{recipe.place(name)}: {value} is what the stage makes, {named}, and not {same}")
    return named


def _is_rows_or_model(path: Path) -> bool:
    return path.is_file() or any((path / name).is_file() for name in ("config.json", "adapter_config.json"))
