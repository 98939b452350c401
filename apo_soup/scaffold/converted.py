"""`apo-soup new NAME --from FILE`: a recipe of a configuration of axolotl or LLaMA-Factory, with a table of keys."""

import re
import shlex
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
_EACH_EPOCH = ("saves_per_epoch", "evals_per_epoch")
# Above it is no number of rows or epochs.
_MOST = 1e12
# A problem names the key that it is about behind the file's name.
_KEY = re.compile(r"^[^:]+(?::\d+)?: ([\w.]+): (.*)$", re.DOTALL)


@dataclass
class Fate:
    """What became of a key: the keys of ours that it is, or what it is in words; and why it is left out, or in part."""

    key: str
    taken: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    told: str = ""

    @property
    def words(self) -> str:
        """What it is here."""
        taken = ", ".join(f"{name}: {as_written(value)}" for name, value in self.taken.items())
        return taken or self.told or "left out"


@dataclass
class Converted:
    """A configuration's keys as a stage file's.

    Attributes:
        kind: sft or apo.
        keys: the stage file's.
        fate: what became of every key that says something.
        data: rows, `base` the model.
    """

    kind: str
    foreign: ForeignKeys
    base: str = ""
    keys: dict[str, Any] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)
    held_out: Any = None
    fate: list[Fate] = field(default_factory=list)

    def take(self, key: str, keys: dict[str, Any]) -> None:
        """Take a key as keys of ours, or leave it out where it is none, or where another key says otherwise."""
        other = next((name for name, value in keys.items() if name in self.keys and self.keys[name] != value), None)
        if other:
            holder = next((fate.key for fate in self.fate if other in fate.taken), "another key")
            self.leave(key, f"{holder} says {other}: {as_written(self.keys[other])}")
        elif keys:
            self.keys |= keys
            self.fate.append(Fate(key, keys))
        else:
            self.leave(key, self.foreign.reason(key))

    def take_defaults(self, defaults: dict[str, Any]) -> None:
        """Write the project's own defaults, where its file gives no other value and those here differ."""
        missing = {name: value for name, value in defaults.items() if name not in self.keys}
        self.keys |= missing
        self.fate += [Fate(f"default of {name}", {name: value}) for name, value in missing.items()]

    def leave(self, key: str, why: str) -> None:
        """Leave a key out."""
        self.fate.append(Fate(key, why=why))

    def table(self) -> str:
        """What became of every key."""
        return text_table(["key", "taken as", "why not"], [[fate.key, fate.words, fate.why] for fate in self.fate])


def convert_recipe(name: str, file: str, say: Callable[[str], None]) -> Path:
    """Write a recipe of another project's configuration, and say what became of its keys; returns the stage file.

    Raises:
        UserError: the file cannot be read, is of neither project, or of a method that is not trained here; or the
            folder is there.
    """
    folder = free_folder(name)
    source = need_file(file, "configuration", "--from")
    converted = converted_keys(read_yaml(source)[0], source, folder)
    leave_out_wrong(converted, folder)
    for line in (f"{file}: a configuration of {converted.foreign.name}, for {converted.kind}.yaml", converted.table()):
        say(line)
    model = path_from(folder, converted.base) if is_local(converted.base) else converted.base
    mixture = {"datasets": converted.sources, "seed": 0}
    mixture |= {"test_split_size": converted.held_out} if converted.held_out else {}
    about = (
        f"From {source.name}, a configuration of {converted.foreign.name}.",
        f"  apo-soup run {converted.kind} {shlex.quote(str(folder))}",
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
    converted = Converted(_kind(method, file, "rl"), AXOLOTL, _base(values, AXOLOTL, file))
    converted.fate.append(Fate("base_model", told="model of recipe.yaml"))
    if converted.kind == "apo":
        converted.take("rl", {"loss_type": _LOSSES[str(method)]})
    rows = "datasets" if values.get("datasets") else "pretraining_dataset"
    entries = values.get(rows) or []
    for entry in entries if isinstance(entries, list) else [entries]:
        source, left = axolotl_source(entry if isinstance(entry, dict) else {"path": entry}, rows)
        _take_source(converted, rows, source, left, folder)
    if rows == "datasets" and values.get("pretraining_dataset"):
        converted.leave(
            "pretraining_dataset", "the rows of datasets are taken; a mid.yaml trains on others before them"
        )
    _held_out(converted, "val_set_size", values)
    done = ("base_model", "rl", "datasets", "pretraining_dataset", "val_set_size", "output_dir", *_EACH_EPOCH)
    cosine = values.get("lr_scheduler") in (None, "", "cosine")
    _take_all(converted, values, done, ("lora_target_linear", *(["cosine_min_lr_ratio"] if cosine else [])))
    defaults = {"num_train_epochs": 1, "per_device_train_batch_size": 1, "lr_scheduler_type": "cosine"}
    converted.take_defaults(defaults | {"max_length": 512, "optim": "adamw_torch_fused", "weight_decay": 0.0})
    if converted.keys.get("use_peft"):
        converted.take_defaults({"lora_dropout": 0.0})
    _saves(converted, values)
    if converted.kind == "sft":
        converted.keys.setdefault("assistant_only_loss", not any(s.get("format") == "text" for s in converted.sources))
    return converted


def _llama_factory(values: dict[str, Any], file: Path, folder: Path) -> Converted:
    stage = values.get("stage", "sft")
    loss = (values.get("pref_loss") or "sigmoid") if stage == "dpo" else None
    method = loss if loss else None if stage in ("sft", "pt") else stage
    kind = _kind(method, file, "pref_loss" if loss else "stage")
    converted = Converted(kind, LLAMA_FACTORY, _base(values, LLAMA_FACTORY, file))
    converted.fate.append(Fate("model_name_or_path", told="model of recipe.yaml"))
    if loss:
        converted.take("pref_loss", {"loss_type": _LOSSES[str(loss)]})
    rows = Path(file).parent / str(values.get("dataset_dir", "data"))
    for source, left in llama_factory_sources(values.get("dataset"), rows):
        _take_source(converted, "dataset", source, left, folder)
    _held_out(converted, "val_size", values)
    _take_all(converted, values, ("model_name_or_path", "dataset", "val_size", "pref_loss"), ("neat_packing",))
    if values.get("finetuning_type") in (None, "", "lora"):
        rank = converted.keys.get("lora_r", 8)
        scale = {"lora_alpha": 2 * rank} if _number(rank) else {}
        adapter = {"use_peft": True, "lora_r": 8, "lora_target_modules": "all-linear", "lora_dropout": 0.0}
        converted.take_defaults(adapter | scale)
    converted.take_defaults({"max_length": 2048, "learning_rate": 5e-5})
    if converted.kind == "sft" and stage == "sft":
        converted.keys.setdefault("assistant_only_loss", True)
    return converted


def _base(values: dict[str, Any], foreign: ForeignKeys, file: Path) -> str:
    """The base model.

    Raises:
        UserError: none is named.
    """
    base = values[foreign.base]
    if not isinstance(base, str) or not base.strip():
        told = f"expected a model's folder or its id on the Hub, got {as_written(base)}"
        raise UserError(f"{file}: {foreign.base}: {told}; write one")
    return base


def _kind(method: Any, file: Path, key: str) -> str:
    """The kind of file that trains by a method.

    Raises:
        UserError: none does.
    """
    if method in (None, "", False):
        return "sft"
    if not isinstance(method, str) or method not in _LOSSES:
        known, got = ", ".join(_LOSSES), method if isinstance(method, str) else as_written(method)
        raise UserError(
            f"{file}: {key}: expected supervised training, or preferences by one of {known}, got {got}, which is "
            "another method; train it where it is from"
        )
    return "apo"


def _placed(source: dict[str, Any], folder: Path) -> dict[str, Any]:
    return {**source, "id": path_from(folder, source["id"]) if is_local(source["id"]) else source["id"]}


def _take_source(
    converted: Converted, key: str, source: dict[str, Any], left: list[tuple[str, str]], folder: Path
) -> None:
    if source:
        converted.sources.append(_placed(source, folder))
        converted.fate.append(Fate(key, told=f"dataset_mixture: {as_written(source)}"))
    for name, why in left:
        converted.leave(name, why)


def _held_out(converted: Converted, key: str, values: dict[str, Any]) -> None:
    size = _number(values.get(key))
    if size is not None and size > 0:
        converted.held_out = int(size) if size >= 1 else size
        converted.fate.append(Fate(key, told=f"dataset_mixture.test_split_size: {converted.held_out}"))
    elif values.get(key) not in (None, "", False, 0):
        converted.leave(key, f"expected a share or a number of rows, got {as_written(values[key])}")


def _number(value: Any) -> float | None:
    """A value that is a number which can be counted with; None of any other."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) < _MOST else None


def _take_all(converted: Converted, values: dict[str, Any], done: tuple[str, ...], first: tuple[str, ...] = ()) -> None:
    """Take every key that says something and is not done yet; of two for one key of ours, the same whatever their order
    is: one of `first`, else the one of the same name, else the first of the table.
    """
    foreign, known = converted.foreign, file_model(converted.kind).model_fields
    if values.get("warmup_steps") == 0:  # which both projects take for a key that is not given
        first = (*first, "warmup_ratio")
    table = [*first, *known, *foreign.values, *foreign.renamed]
    at_first = len(converted.fate)
    for key in sorted(values, key=lambda key: table.index(key) if key in table else len(table)):
        written = values[key]
        # YAML reads 2e-4 as text.
        value = float(written) if isinstance(written, str) and _NUMBER.fullmatch(written) else written
        if value in (None, "", [], {}) or key in done:
            continue
        if key in foreign.values:
            converted.take(key, foreign.values[key](value))
        elif key in foreign.renamed:
            converted.take(key, {foreign.renamed[key]: value} if foreign.renamed[key] in known else {})
        elif key in known and key not in foreign.left_out:
            converted.take(key, {key: value})
        elif value is not False:
            converted.take(key, {})
    order = list(values)
    converted.fate[at_first:] = sorted(converted.fate[at_first:], key=lambda fate: order.index(fate.key))


def _saves(converted: Converted, values: dict[str, Any]) -> None:
    """Checkpoints and evaluations by their number an epoch, as shares of the steps."""
    epochs = _number(converted.keys.get("num_train_epochs", 1)) or 1
    for key, what in zip(_EACH_EPOCH, ("save", "eval"), strict=True):
        count = _number(values.get(key))
        if count is None or count <= 0:
            if values.get(key) not in (None, "", False, 0):
                converted.leave(key, f"expected a number of times, got {as_written(values[key])}")
            continue
        if what == "eval" and not converted.held_out:
            converted.take(key, {})
        elif count * epochs <= 1 or count == 1:
            converted.take(key, {f"{what}_strategy": "epoch"})
        else:
            share = round(1 / (count * epochs), 6)
            converted.take(key, {f"{what}_strategy": "steps", f"{what}_steps": share})


def leave_out_wrong(converted: Converted, folder: Path) -> None:
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
        wrong = dict(_wrong_keys(converted, problems))
        if not wrong:
            if problems:
                raise UserError(problems[0])
            return
        for key, why in wrong.items():
            del converted.keys[key]
            for fate in converted.fate:
                if key in fate.taken:
                    del fate.taken[key]
                    fate.why = why


def _wrong_keys(converted: Converted, problems: list[str]) -> Iterator[tuple[str, str]]:
    for problem in problems:
        found = _KEY.match(problem)
        key = found[1].partition(".")[0] if found else ""
        if found and key in converted.keys:
            yield key, found[2]
