"""`apo-soup new NAME --from FILE`: a recipe of a configuration of axolotl or LLaMA-Factory, with a table of keys."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apo_soup.config.given import Given
from apo_soup.config.in_words import as_written
from apo_soup.config.load import check_keys, file_model
from apo_soup.config.recipe_file import RecipeFile
from apo_soup.config.yaml_lines import read_yaml
from apo_soup.errors import UserError, need_file
from apo_soup.runs.sources import is_local
from apo_soup.scaffold.foreign_keys import AXOLOTL, LLAMA_FACTORY, ForeignKeys
from apo_soup.scaffold.foreign_rows import axolotl_source, llama_factory_sources
from apo_soup.scaffold.model_seen import path_from
from apo_soup.scaffold.new_recipe import add_schemas, file_text, free_folder, whole_folder
from apo_soup.scaffold.stages import WrittenFile
from apo_soup.tables import text_table

# The methods of axolotl's `rl`, and of LLaMA-Factory's `stage` and `pref_loss`, that are trained here, as losses.
_LOSSES = {"dpo": "sigmoid", "ipo": "ipo", "sigmoid": "sigmoid", "hinge": "hinge"}
_NUMBER = re.compile(r"\d+(\.\d+)?[eE]-?\d+")
# A problem names the key that it is about behind the file's name.
_KEY = re.compile(r"^[^:]+(?::\d+)?: ([\w.]+): (.*)$", re.DOTALL)


@dataclass
class Converted:
    """A configuration's keys as a stage file's.

    Attributes:
        kind: sft or apo.
        keys: the stage file's.
        fate: what became of every key that says something: its name, what it is here, and why.
        data: rows, `base` the model.
    """

    kind: str
    foreign: ForeignKeys
    base: str = ""
    keys: dict[str, Any] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)
    held_out: Any = None
    fate: list[tuple[str, str, str]] = field(default_factory=list)

    def take(self, key: str, keys: dict[str, Any]) -> None:
        """Take a key as keys of ours, or leave it out where it is none."""
        self.keys |= keys
        told = ", ".join(f"{name}: {as_written(value)}" for name, value in keys.items())
        self.fate.append((key, told or "left out", "" if told else self.foreign.reason(key)))

    def table(self) -> str:
        """What became of every key."""
        return text_table(["key", "taken as", "why not"], [list(map(str, row)) for row in self.fate])


def convert_recipe(name: str, file: str, say: Callable[[str], None]) -> Path:
    """Write a recipe of another project's configuration, and say what became of its keys; returns the stage file.

    Raises:
        UserError: the file cannot be read, is of neither project, or of a method that is not trained here; or the
            folder is there.
    """
    folder = free_folder(name)
    source = need_file(file, "configuration", "--from")
    converted = converted_keys(read_yaml(source)[0], source, folder)
    _leave_out_wrong(converted, folder)
    for line in (f"{file}: a configuration of {converted.foreign.name}, for {converted.kind}.yaml", converted.table()):
        say(line)
    model = path_from(folder, converted.base) if is_local(converted.base) else converted.base
    mixture = {"datasets": converted.sources, "seed": 0}
    mixture |= {"test_split_size": converted.held_out} if converted.held_out else {}
    about = (
        f"From {source.name}, a configuration of {converted.foreign.name}.",
        f"  apo-soup run {converted.kind} {name}",
    )
    parts = ({"model_name_or_path": "base", **converted.keys}, {"dataset_mixture": mixture})
    with whole_folder(folder) as partial:
        shared = WrittenFile(
            RecipeFile, ("What the files beside this one share.",), ({"name": folder.name, "model": model},)
        )
        for kind, written in (
            ("recipe", shared),
            (converted.kind, WrittenFile(file_model(converted.kind), about, parts)),
        ):
            (partial / f"{kind}.yaml").write_text(file_text(written, kind, folder), encoding="utf-8")
        add_schemas(partial, folder)
    return folder / f"{converted.kind}.yaml"


def converted_keys(values: dict[str, Any], file: Path, folder: Path) -> Converted:
    """The keys of a configuration as those of a stage file.

    Raises:
        UserError: it is of neither project, or of a method that is not trained here.
    """
    if "base_model" in values:
        return _axolotl(values, file, folder)
    if "model_name_or_path" in values and not values.keys().isdisjoint(("finetuning_type", "cutoff_len", "template")):
        return _llama_factory(values, file, folder)
    raise UserError(
        f"{file}: expected a configuration of axolotl (base_model) or LLaMA-Factory (finetuning_type, cutoff_len), got "
        "neither's keys; one of TRL or alignment-handbook is a stage file as it is: name it sft.yaml or apo.yaml"
    )


def _axolotl(values: dict[str, Any], file: Path, folder: Path) -> Converted:
    method = values.get("rl")
    if values.get("reward_model") or values.get("process_reward_model"):
        method = "a reward model"
    converted = Converted(_kind(method, file, "rl"), AXOLOTL, str(values["base_model"]))
    converted.fate.append(("base_model", "model of recipe.yaml", ""))
    if converted.kind == "apo":
        converted.take("rl", {"loss_type": _LOSSES[str(method)]})
    entries = values.get("datasets") or values.get("pretraining_dataset") or []
    for entry in entries if isinstance(entries, list) else [entries]:
        source, left = axolotl_source(entry if isinstance(entry, dict) else {"path": entry})
        if source:
            converted.sources.append(_placed(source, folder))
            converted.fate.append(("datasets", f"dataset_mixture: {as_written(source)}", ""))
        converted.fate += [(key, "left out", why) for key, why in left]
    _held_out(converted, "val_set_size", values)
    _take_all(converted, values, ("base_model", "rl", "datasets", "pretraining_dataset", "val_set_size", "output_dir"))
    _saves(converted, values)
    if converted.kind == "sft":
        converted.keys.setdefault("assistant_only_loss", not any(s.get("format") == "text" for s in converted.sources))
    return converted


def _llama_factory(values: dict[str, Any], file: Path, folder: Path) -> Converted:
    stage = values.get("stage", "sft")
    loss = values.get("pref_loss", "sigmoid") if stage == "dpo" else None
    method = loss if loss else None if stage in ("sft", "pt") else stage
    converted = Converted(_kind(method, file, "pref_loss" if loss else "stage"), LLAMA_FACTORY)
    converted.base = str(values["model_name_or_path"])
    converted.fate.append(("model_name_or_path", "model of recipe.yaml", ""))
    if loss:
        converted.take("pref_loss", {"loss_type": _LOSSES[str(loss)]})
    rows = Path(file).parent / str(values.get("dataset_dir", "data"))
    for source, left in llama_factory_sources(values.get("dataset"), rows):
        converted.sources.append(_placed(source, folder))
        converted.fate.append(("dataset", f"dataset_mixture: {as_written(source)}", ""))
        converted.fate += [(key, "left out", why) for key, why in left]
    _held_out(converted, "val_size", values)
    _take_all(converted, values, ("model_name_or_path", "dataset", "val_size", "pref_loss"))
    if converted.kind == "sft" and stage == "sft":
        converted.keys.setdefault("assistant_only_loss", True)
    return converted


def _kind(method: Any, file: Path, key: str) -> str:
    """The kind of file that trains by a method.

    Raises:
        UserError: none does.
    """
    if method in (None, "", False):
        return "sft"
    if method not in _LOSSES:
        known = ", ".join(_LOSSES)
        raise UserError(
            f"{file}: {key}: expected supervised training, or preferences by one of {known}, got {method}, which is "
            "another method; train it where it is from"
        )
    return "apo"


def _placed(source: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {**source, "id": path_from(folder, source["id"]) if is_local(source["id"]) else source["id"]}


def _held_out(converted: Converted, key: str, values: dict[str, Any]) -> None:
    size = values.get(key)
    if isinstance(size, (int, float)) and not isinstance(size, bool) and size > 0:
        converted.held_out = int(size) if size >= 1 else size
        converted.fate.append((key, f"dataset_mixture.test_split_size: {converted.held_out}", ""))


def _take_all(converted: Converted, values: dict[str, Any], done: tuple[str, ...]) -> None:
    """Take every key that says something and is not done yet."""
    foreign, known = converted.foreign, file_model(converted.kind).model_fields
    for key, written in values.items():
        # YAML reads 2e-4 as text.
        value = float(written) if isinstance(written, str) and _NUMBER.fullmatch(written) else written
        if value in (None, "", [], {}) or key in done or key in ("saves_per_epoch", "evals_per_epoch"):
            continue
        if key in foreign.values:
            converted.take(key, foreign.values[key](value))
        elif key in foreign.renamed:
            converted.take(key, {foreign.renamed[key]: value} if foreign.renamed[key] in known else {})
        elif key in known and key not in foreign.left_out:
            converted.take(key, {key: value})
        elif value is not False:
            converted.take(key, {})


def _saves(converted: Converted, values: dict[str, Any]) -> None:
    """Checkpoints and evaluations by their number an epoch, as shares of the steps."""
    epochs = converted.keys.get("num_train_epochs", 1)
    for key, what in (("saves_per_epoch", "save"), ("evals_per_epoch", "eval")):
        count = values.get(key)
        if not isinstance(count, (int, float)) or count <= 0:
            continue
        if what == "eval" and not converted.held_out:
            converted.take(key, {})
        elif count * epochs <= 1 or count == 1:
            converted.take(key, {f"{what}_strategy": "epoch"})
        else:
            share = round(1 / (count * epochs), 6)
            converted.take(key, {f"{what}_strategy": "steps", f"{what}_steps": share})


def _leave_out_wrong(converted: Converted, folder: Path) -> None:
    """Leave out the keys whose values this project refuses, each with its sentence.

    Raises:
        UserError: the rows are at fault, or nothing names them.
    """
    while True:
        path = folder / f"{converted.kind}.yaml"
        values = {"output_dir": "runs/x", "model_name_or_path": converted.base, **converted.keys}
        mixture: dict[str, Any] = {"datasets": converted.sources}
        mixture |= {"test_split_size": converted.held_out} if converted.held_out else {}
        problems = check_keys(converted.kind, Given(path, values | {"dataset_mixture": mixture}))[1]
        wrong = list(_wrong_keys(converted, problems))
        if not wrong:
            if problems:
                raise UserError(problems[0])
            return
        for key, why in wrong:
            value = converted.keys.pop(key)
            converted.fate = [
                (theirs, "left out", why) if f"{key}: {as_written(value)}" in taken else (theirs, taken, reason)
                for theirs, taken, reason in converted.fate
            ]


def _wrong_keys(converted: Converted, problems: list[str]) -> Iterator[tuple[str, str]]:
    for problem in problems:
        found = _KEY.match(problem)
        key = found[1].partition(".")[0] if found else ""
        if found and key in converted.keys:
            yield key, found[2]
