"""`apo-soup new NAME --from FILE`: a recipe of another project's configuration, with a table of keys.

Configurations of axolotl, LLaMA-Factory and ms-swift are taken, and scripts with a `swift sft` command.
"""

import math
import os
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from apo_soup.config.given import Given
from apo_soup.config.in_words import as_written
from apo_soup.config.load import check_keys, file_model
from apo_soup.config.recipe_file import RecipeFile
from apo_soup.config.yaml_lines import read_yaml
from apo_soup.errors import UserError, need_file, told_by_library
from apo_soup.runs.sources import is_local
from apo_soup.scaffold.foreign_axolotl import AXOLOTL
from apo_soup.scaffold.foreign_keys import ForeignKeys
from apo_soup.scaffold.foreign_llama_factory import LLAMA_FACTORY
from apo_soup.scaffold.foreign_rows import axolotl_source, llama_factory_sources, swift_sources
from apo_soup.scaffold.foreign_swift import MS_SWIFT, TUNERS
from apo_soup.scaffold.model_seen import path_from
from apo_soup.scaffold.new_recipe import add_schemas, file_text, free_folder, whole_folder
from apo_soup.scaffold.stages import WrittenFile
from apo_soup.scaffold.swift_command import swift_keys
from apo_soup.scaffold.taken_keys import Converted, Fate, counted

# The methods of axolotl's `rl`, and of LLaMA-Factory's `stage` and `pref_loss`, that are trained here, as losses.
_LOSSES = {"dpo": "sigmoid", "ipo": "ipo", "sigmoid": "sigmoid", "hinge": "hinge"}
_EACH_EPOCH = ("saves_per_epoch", "evals_per_epoch")
# A problem names the key that it is about behind the file's name.
_KEY = re.compile(r"^[^:]+(?::\d+)?: ([\w.]+): (.*)$", re.DOTALL)


def convert_recipe(name: str, file: str, say: Callable[[str], None]) -> Path:
    """Write a recipe of another project's configuration, and say what became of its keys; returns the stage file.

    Raises:
        UserError: the file cannot be read, is of none of these projects, names no rows, or is of a method that is not
            trained here; or the folder is there.
    """
    folder = free_folder(name)
    source = need_file(file, "configuration", "--from")
    converted = converted_keys(_given_keys(source), source, folder)
    if not converted.sources:
        told = "expected rows to train on, got none that a recipe could name"
        raise UserError(f"{file}: {told}; write the file or the id of a data set below {converted.foreign.rows}")
    leave_out_wrong(converted, folder)
    for line in (f"{file}: a configuration of {converted.foreign.name}, for {converted.kind}.yaml", converted.table()):
        say(line)
    model = path_from(folder, converted.base) if is_local(converted.base) else converted.base
    about = (
        f"From {source.name}, a configuration of {converted.foreign.name}.",
        f"  apo-soup run {converted.kind} {shlex.quote(str(folder))}",
    )
    parts = ({"model_name_or_path": "base", **converted.keys}, {"dataset_mixture": converted.mixture})
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


def _given_keys(file: Path) -> dict[str, Any]:
    """The keys of a configuration, or of the command of a script.

    Raises:
        UserError: the file cannot be read, or a script has no such command.
    """
    if file.suffix.lower() != ".sh":
        return read_yaml(file)[0]
    with told_by_library(file, (OSError, ValueError), expected="a text in UTF-8", way="name another file"):
        text = file.read_text(encoding="utf-8-sig")
    keys = swift_keys(text, file)
    if keys is None:
        raise UserError(
            f"{file}: expected a script with a swift command (pt, sft, rlhf), got none; give the file of its keys"
        )
    return keys


def converted_keys(values: dict[str, Any], file: Path, folder: Path) -> Converted:
    """The keys of a configuration as those of a stage file.

    Raises:
        UserError: it is of none of these projects, or of a method that is not trained here.
    """
    if "base_model" in values:
        return _axolotl(values, file, folder)
    if "model_name_or_path" in values and not values.keys().isdisjoint(("finetuning_type", "cutoff_len", "template")):
        return _llama_factory(values, file, folder)
    if "model" in values and "dataset" in values:
        return _ms_swift(values, file, folder)
    raise UserError(
        f"{file}: expected a configuration of axolotl (base_model), LLaMA-Factory (finetuning_type, cutoff_len) or "
        "ms-swift (model, dataset), or a script with its swift command, got none's keys; one of TRL or "
        "alignment-handbook is a stage file as it is: name it sft.yaml or apo.yaml"
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
        converted.take_source(rows, source, left, folder)
    if rows == "datasets" and values.get("pretraining_dataset"):
        converted.leave(
            "pretraining_dataset", "the rows of datasets are taken; a mid.yaml trains on others before them"
        )
    converted.hold_out("val_set_size", values.get("val_set_size"))
    done: tuple[str, ...] = ("base_model", "rl", "datasets", "pretraining_dataset", "val_set_size", "output_dir")
    done = (*done, *_EACH_EPOCH, "special_tokens", "batch_size", "dataset_exact_deduplication")
    if values.get("output_dir"):
        converted.leave("output_dir", "the recipe's name says it")
    if values.get("dataset_exact_deduplication") is True:
        converted.deduplicate = "exact"
        converted.fate.append(Fate("dataset_exact_deduplication", told="dataset_mixture.deduplicate: exact"))
    _special_tokens(converted, values.get("special_tokens"))
    cosine = values.get("lr_scheduler") in (None, "", "cosine")
    converted.take_all(values, done, ("lora_target_linear", *(["cosine_min_lr_ratio"] if cosine else [])))
    defaults = {"num_train_epochs": 1, "per_device_train_batch_size": 1, "lr_scheduler_type": "cosine"}
    defaults |= {"max_length": 512, "optim": "adamw_torch_fused", "weight_decay": 0.0, "warmup_steps": 0.03}
    texts = [source.get("format") == "text" for source in converted.sources]
    converted.take_defaults(defaults | {"overflow": "split" if texts and all(texts) else "drop"})
    if converted.keys.get("use_peft"):
        converted.take_defaults({"lora_dropout": 0.0})
    _four_bits(converted)
    _axolotl_batch(converted, values)
    _saves(converted, values)
    converted.keep_evaluations("val_set_size")
    if converted.kind == "sft":
        converted.take_defaults({"assistant_only_loss": not any(texts)})
        if any(texts) and not all(texts):
            converted.leave("train_on_inputs", "some rows are texts, so that the prompts of the others are trained too")
    return converted


def _special_tokens(converted: Converted, written: Any) -> None:
    """Take the end of a turn; a tokenizer's other tokens are its own."""
    tokens = written if isinstance(written, dict) else {}
    end = tokens.get("eos_token") if converted.kind == "sft" else None
    if end:
        converted.take("special_tokens", {"eos_token": end})
    left = [name for name, token in tokens.items() if token and not (end and name == "eos_token")]
    if left or (written and not tokens):
        converted.leave("special_tokens", f"the tokenizer's own are taken ({', '.join(map(str, left)) or 'no names'})")


def _axolotl_batch(converted: Converted, values: dict[str, Any]) -> None:
    """The batch of a device over all its micro-batches, where their number is not given."""
    rows, at_once = counted(values.get("batch_size")), counted(converted.keys.get("per_device_train_batch_size"))
    if not values.get("batch_size"):
        return
    if values.get("gradient_accumulation_steps"):
        converted.leave("batch_size", "gradient_accumulation_steps says it")
    elif rows and at_once and at_once >= 1 and rows >= at_once:
        converted.take("batch_size", {"gradient_accumulation_steps": int(rows // at_once)})
    else:
        converted.take("batch_size", {})


def _four_bits(converted: Converted) -> None:
    """Write how axolotl, LLaMA-Factory and ms-swift quantise a base to 4 bits."""
    if converted.keys.get("load_in_4bit"):
        converted.take_defaults({"bnb_4bit_quant_type": "nf4", "use_bnb_nested_quant": True})


def _llama_factory(values: dict[str, Any], file: Path, folder: Path) -> Converted:
    stage = values.get("stage", "sft")
    loss = (values.get("pref_loss") or "sigmoid") if stage == "dpo" else None
    method = loss if loss else None if stage in ("sft", "pt") else stage
    kind = _kind(method, file, "pref_loss" if loss else "stage")
    converted = Converted(kind, LLAMA_FACTORY, _base(values, LLAMA_FACTORY, file))
    converted.fate.append(Fate("model_name_or_path", told="model of recipe.yaml"))
    done: tuple[str, ...] = ("model_name_or_path", "dataset", "val_size", "pref_loss")
    if loss:
        done = (*done, "pref_ftx")
        _pref_losses(converted, loss, values.get("pref_ftx"))
    bits, method = values.get("quantization_bit"), values.get("quantization_method")
    if bits and method not in (None, "", "bnb", "bitsandbytes"):
        done = (*done, "quantization_bit", "quantization_method")
        for key in done[-2:]:
            converted.leave(key, f"the quantisation of {as_written(method)} is not done here")
    written = str(values.get("dataset_dir", "data"))
    rows = next(filter(os.path.isdir, (file.parent / written, Path(written))), file.parent / written)
    for source, left in llama_factory_sources(values.get("dataset"), rows):
        converted.take_source("dataset", source, left, folder)
    converted.hold_out("val_size", values.get("val_size"))
    converted.take_all(values, done, ("neat_packing",))
    if stage == "pt" and values.get("packing") is None:
        converted.take_defaults({"packing": True})
    _four_bits(converted)
    converted.keep_evaluations("val_size")
    if values.get("finetuning_type") in (None, "", "lora"):
        rank = converted.keys.get("lora_r", 8)
        scale = {"lora_alpha": 2 * rank} if counted(rank) else {}
        adapter = {"use_peft": True, "lora_r": 8, "lora_target_modules": "all-linear", "lora_dropout": 0.0}
        converted.take_defaults(adapter | scale)
    converted.take_defaults({"max_length": 2048, "learning_rate": 5e-5})
    if converted.kind == "sft" and stage == "sft":
        converted.take_defaults({"assistant_only_loss": True})
    return converted


def _pref_losses(converted: Converted, loss: str, share: Any) -> None:
    """The loss of LLaMA-Factory's preference training; `pref_ftx` is the weight of supervised training beside it."""
    weight = counted(share)
    if weight:
        converted.take("pref_loss", {"loss_type": [_LOSSES[loss], "sft"]})
        converted.take("pref_ftx", {"loss_weights": [1.0, weight]})
    else:
        converted.take("pref_loss", {"loss_type": _LOSSES[loss]})


def _ms_swift(values: dict[str, Any], file: Path, folder: Path) -> Converted:
    command = values.get("command") or ("rlhf" if values.get("rlhf_type") else "sft")
    kind = _kind(_swift_method(values, command), file, "rlhf_type" if command == "rlhf" else "task_type")
    converted = Converted(kind, MS_SWIFT, _base(values, MS_SWIFT, file))
    converted.fate.append(Fate("model", told="model of recipe.yaml"))
    done: tuple[str, ...] = ("command", "model", "dataset", "columns", "split_dataset_ratio")
    if kind == "apo":
        _swift_losses(converted, values, file)
        done = (*done, "rlhf_type", "loss_type", "loss_weights", "rpo_alpha")
    if values.get("quant_method") not in (None, "", "bnb"):
        done = (*done, "quant_bits")
        if values.get("quant_bits"):
            converted.leave("quant_bits", f"the quantisation of {as_written(values['quant_method'])} is not done here")
    _swift_rows(converted, values, folder)
    converted.hold_out("split_dataset_ratio", values.get("split_dataset_ratio"))
    converted.take_all(values, done)
    if not any(values.get(name) for name in TUNERS):
        converted.take_defaults({"use_peft": True})
    adapter = converted.keys.get("use_peft")
    if adapter:
        shape = {"lora_r": 8, "lora_alpha": 32, "lora_dropout": 0.05, "lora_target_modules": "all-linear"}
        converted.take_defaults(shape)
    _four_bits(converted)
    defaults = {"weight_decay": 0.1, "adam_beta2": 0.95, "lr_scheduler_type": "cosine", "overflow": "drop"}
    converted.take_defaults({**defaults, "per_device_train_batch_size": 1, "learning_rate": 1e-4 if adapter else 1e-5})
    size = counted(converted.keys.get("per_device_train_batch_size", 1))
    if "gradient_accumulation_steps" not in converted.keys and size and size >= 1:
        converted.take_defaults({"global_batch_size": int(size) * math.ceil(16 / int(size))})
    if "max_length" not in converted.keys:
        converted.leave("default of max_length", "the model's longest text there, 1,024 tokens here; write one")
    if converted.held_out and not values.get("eval_strategy"):  # which is save_strategy's there, and that is steps
        when = converted.keys.get("save_strategy", "steps")
        steps = {"eval_steps": converted.keys.get("save_steps", 500)} if when == "steps" else {}
        converted.take_defaults({"eval_strategy": when, **steps})
    converted.keep_evaluations("split_dataset_ratio")
    if kind == "sft":
        converted.take_defaults({"assistant_only_loss": command != "pt"})
    return converted


def _swift_rows(converted: Converted, values: dict[str, Any], folder: Path) -> None:
    for source, left in swift_sources(values.get("dataset"), values.get("columns")):
        converted.take_source("dataset", source, left, folder)
    if values.get("columns"):
        converted.fate.append(Fate("columns", told="rename of each source"))
    if not (values.get("use_hf") or all(is_local(source["id"]) for source in converted.sources)):
        told = "data sets are ModelScope's there, and of Hugging Face's Hub here: see that it has them"
        converted.leave("default of use_hf", told)


def _swift_method(values: dict[str, Any], command: Any) -> Any:
    """What a command of ms-swift trains, as `_kind` takes it."""
    if command == "rlhf":
        return values.get("rlhf_type") or "dpo"
    task = values.get("task_type")
    return None if task == "causal_lm" else task


def _swift_losses(converted: Converted, values: dict[str, Any], file: Path) -> None:
    """The losses of ms-swift's preference training; `rpo_alpha` is the weight of one more.

    Raises:
        UserError: one of them is none of ours.
    """
    given = values.get("loss_type") or "sigmoid"
    losses = list(given) if isinstance(given, list) else [given]
    problems = check_keys("apo", Given(file, {"output_dir": "runs/x", "loss_type": given}))[1]
    wrong = next((problem for problem in problems if ": loss_type" in problem), None)
    if wrong:
        raise UserError(wrong)
    weights = values.get("loss_weights")
    alpha = counted(values.get("rpo_alpha"))
    if alpha:
        losses, weights = [*losses, "sft"], [*(weights if isinstance(weights, list) else [1.0] * len(losses)), alpha]
        converted.fate.append(Fate("rpo_alpha", told=f"the weight of the loss sft: {alpha}"))
    converted.take("loss_type", {"loss_type": losses if len(losses) > 1 else losses[0]})
    if weights:
        converted.take("loss_weights", {"loss_weights": weights})


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


def _saves(converted: Converted, values: dict[str, Any]) -> None:
    """Checkpoints and evaluations by their number an epoch, as shares of the steps."""
    epochs = counted(converted.keys.get("num_train_epochs", 1)) or 1
    for key, what in zip(_EACH_EPOCH, ("save", "eval"), strict=True):
        count = counted(values.get(key))
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
        given = Given(path, values | {"dataset_mixture": converted.mixture})
        problems = check_keys(converted.kind, given)[1]
        wrong = dict(_wrong_keys(converted, problems))
        if not wrong:
            if problems:
                raise UserError(problems[0])
            return
        for key, why in wrong.items():
            converted.drop(key, why)


def _wrong_keys(converted: Converted, problems: list[str]) -> Iterator[tuple[str, str]]:
    for problem in problems:
        found = _KEY.match(problem)
        key = found[1].partition(".")[0] if found else ""
        if found and key in converted.keys:
            yield key, found[2]
