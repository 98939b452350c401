"""Load a stage file: YAML with line numbers, command-line overrides, renamed keys, and a check of every key.

Nothing here imports torch, so a mistake is told in well under a second. The order is the order of the user's text:
read the file, lay the command line over it, map keys of older releases, then check names and types.
"""

import argparse
import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from apo_soup.config.library_keys import Key, keys_of
from apo_soup.errors import UserError, need_file


@dataclass
class Recipe:
    """A checked stage file: `values` are the resolved keys, `notes` what was mapped, `lines` where keys stand.

    `member` is the number of a soup member whose keys these are.
    """

    path: Path
    stage: str
    values: dict[str, Any]
    lines: dict[str, int]
    notes: list[str] = field(default_factory=list)
    member: int | None = None

    def where(self, key: str) -> str:
        """`file:line` of a key, or the file and `command line` for an override."""
        line = self.lines.get(key)
        return f"{self.path}:{line}" if line else f"{self.path} (command line)"

    def need(self, key: str) -> Any:
        """The value of a key that must be there; raises UserError naming the file."""
        if self.values.get(key) is None:
            raise UserError(f"{self.path}: key {key} is missing; add it to the file or give --{key} VALUE")
        return self.values[key]


# Keys of ours, beside those of TRL and transformers: name -> annotation.
DATA_KEYS = {
    "dataset_mixture": "dict",
    "chat_template": "str | None",
    "chat_template_kwargs": "dict | None",
    "max_reject_share": "float",
    "overflow": "str | None",
}
# Keys of ours that take one of a few words.
CHOICES = {
    "overflow": ("truncate", "drop", "split"),
    "deduplicate": ("exact", "near"),
    "mode": ("think", "no_think"),
    "engine": ("transformers", "vllm", "openai"),
    "harness_engine": ("auto", "transformers", "vllm"),
    "tool_format": ("xml", "python"),
    "keep": ("right_over_wrong", "right_over_any", "strong_over_weak"),
    "tie_break": ("first", "shortest", "longest"),
    # Rows come prepared; the samplers that look at their lengths cannot run on them.
    "train_sampling_strategy": ("random", "sequential"),
}
LOSSES = {"sigmoid", "hinge", "ipo", "exo_pair", "nca_pair", "robust", "bco_pair", "sppo_hard", "aot", "aot_unpaired",
          "apo_zero", "apo_down", "discopop", "sft", "sigmoid_norm"}  # fmt: skip
# As CHOICES, for a name that means something else in another stage.
PAIRS_FORMATS = ("jsonl", "parquet")
# Arguments of vllm.LLM that have keys of their own in a pairs file.
VLLM_OWN = ("model", "revision", "dtype", "trust_remote_code", "seed")
STAGE_CLASSES = {"sft": ("SFTConfig", "ModelConfig"), "apo": ("DPOConfig", "ModelConfig")}
OWN_KEYS = {
    "sft": DATA_KEYS,
    "apo": DATA_KEYS | {"members": "list[dict] | None", "checkpoints": "list | None", "packed_pairs": "bool | None"},
    "data": {"output_dir": "str", "seed": "int", "counts": "dict[str, int]"},
    "pairs": {
        "output_dir": "str",
        "prompts": "str | dict | list",
        "reference": "str",
        "chat_template_kwargs": "dict | None",
        "mode": "str",
        "strong": "dict",
        "weak": "dict",
        "temperature": "float",
        "top_p": "float",
        "top_k": "int",
        "min_p": "float",
        "max_new_tokens": "int",
        "candidates": "int",
        "batch_size": "int",
        "seed": "int",
        "verifier": "str | None",
        "keep": "str | None",
        "tie_break": "str",
        "filters": "dict | None",
        "length_balance": "float | None",
        "limit": "int | None",
        "test_share": "float",
        "format": "str",
        "max_reject_share": "float",
    },
    "merge": {
        "output_dir": "str",
        "soup": "dict",
        "merge": "dict",
        "one_pass": "bool",
        "options": "dict | None",
        "long_context": "dict | None",
        "sweep": "dict | None",
    },
    "eval": {
        "output_dir": "str",
        "models": "dict[str, str]",
        "tasks": "list[dict]",
        "batch_size": "int",
        "max_context_tokens_per_batch": "int",
        "samples": "int",
        "seed": "int",
        "chat_template": "str | None",
        "dtype": "str",
        "harness_engine": "str",
    },
}
MIXTURE_KEYS = {
    "datasets": "list[dict]",
    "seed": "int",
    "test_split_size": "float | None",
    "deduplicate": "str | None",
    "deduplicate_threshold": "float",
    "decontaminate": "list | None",
    "decontaminate_ngram": "int",
}
SOURCE_KEYS = {
    "id": "str",
    "config": "str | None",
    "split": "str",
    "revision": "str | None",
    "columns": "list[str] | None",
    "weight": "float",
    "format": "str | None",
    "rename": "dict[str, str] | None",
    "streaming": "bool",
    "chat_template_kwargs": "dict | None",
}

EVAL_SOURCE_KEYS = {
    "id": "str",
    "config": "str | None",
    "split": "str",
    "revision": "str | None",
    "column": "str | None",
}
# Keys of one side of a pairs file: those of every engine, and those that only some engines have.
SIDE_KEYS = {
    "model": "str",
    "engine": "str",
    "temperature": "float",
    "top_p": "float",
    "top_k": "int",
    "min_p": "float",
    "max_new_tokens": "int",
    "candidates": "int",
    "seed": "int",
}
LOCAL_KEYS = {"revision": "str | None", "dtype": "str", "chat_template": "str | None", "trust_remote_code": "bool"}
ENGINE_KEYS = {
    "transformers": LOCAL_KEYS | {"batch_size": "int"},
    "vllm": LOCAL_KEYS | {"engine_kwargs": "dict | None"},
    "openai": {
        "base_url": "str",
        "api_key_env": "str",
        "concurrency": "int",
        "requests_per_minute": "float | None",
        "timeout": "float",
        "retries": "int",
        "send_template_kwargs": "bool",
        "extra_body": "dict | None",
    },
}
FILTER_KEYS = {
    "min_tokens": "int",
    "max_tokens": "int | None",
    "near": "float | None",
    "language": "bool",
    "languages": "list[str] | None",
}
TASK_KEYS = {
    "name": "str",
    "kind": "str",
    "data": "str",
    "modes": "list[str]",
    "verifier": "str",
    "max_new_tokens": "int",
    "limit": "int | None",
    "question": "str",
    "reference": "str",
    "generate": "dict | None",
    "tool_format": "str",
    "length": "int",
    "tasks": "list",
    "lengths": "list[int]",
    "num_fewshot": "int | None",
    "include": "str | None",
    "gen_kwargs": "dict",
    "unsafe_code": "bool",
}
MERGE_PARTS = {
    "soup": {"members": "str | list", "dtype": "str", "eval": "str", "metric": "str"},
    "long_context": {"factor": "float", "original_max_position_embeddings": "int | None"},
    "sweep": {
        "models": "list[str]",
        "weights": "list",
        "eval": "str",
        "tasks": "list[str]",
        "metric": "str",
        "guardrails": "dict[str, float]",
        "bootstrap": "int",
        "seed": "int",
    },
}

# Keys that TRL knows and this pipeline cannot honour: name -> why, and what to do.
REFUSED = {
    "chat_template_path": "write chat_template with the file's path",
    "dataset_text_field": "give rows with messages, or with prompt and completion",
    "resume_from_checkpoint": "a stage goes on from its last checkpoint by itself",
    "truncation_mode": "documents are cut at their end",
    "pad_token": "it is the tokenizer's own",
    "eval_packing": "held-out rows are packed as the others are",
    "pad_to_multiple_of": "rows are padded to the longest of their batch",
    "shuffle_dataset": "rows are always shuffled with dataset_mixture.seed",
}

# What a number must be, beyond its type.
BOUNDS: dict[str, tuple[Callable[[float], bool], str]] = {
    "max_length": (lambda value: value >= 1, "1 or more"),
    "dataset_num_proc": (lambda value: value >= 1, "1 or more"),
    "per_device_train_batch_size": (lambda value: value >= 1, "1 or more"),
    "per_device_eval_batch_size": (lambda value: value >= 1, "1 or more"),
    "gradient_accumulation_steps": (lambda value: value >= 1, "1 or more"),
    "num_train_epochs": (lambda value: value > 0, "above 0"),
    "max_steps": (lambda value: value >= 1 or value == -1, "1 or more, or -1 for num_train_epochs"),
    "beta": (lambda value: value > 0, "above 0"),
    "max_reject_share": (lambda value: 0 <= value <= 1, "between 0 and 1"),
    "weight": (lambda value: 0 < value < math.inf, "above 0"),
    "test_split_size": (lambda value: 0 < value < 1, "between 0 and 1"),
    "deduplicate_threshold": (lambda value: 0.3 <= value < 1, "0.3 or more and below 1"),
    "decontaminate_ngram": (lambda value: value >= 2, "2 or more"),
    "temperature": (lambda value: value >= 0, "0 or more"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "top_k": (lambda value: value >= 0, "0 (all) or more"),
    "min_p": (lambda value: 0 <= value < 1, "0 or more and below 1"),
    "max_new_tokens": (lambda value: value >= 1, "1 or more"),
    "candidates": (lambda value: value >= 1, "1 or more"),
    "batch_size": (lambda value: value >= 1, "1 or more"),
    "concurrency": (lambda value: value >= 1, "1 or more"),
    "requests_per_minute": (lambda value: value > 0, "above 0"),
    "timeout": (lambda value: value > 0, "above 0"),
    "retries": (lambda value: value >= 0, "0 or more"),
    "test_share": (lambda value: 0 <= value < 1, "0 or more and below 1"),
    "limit": (lambda value: value >= 1, "1 or more"),
    "factor": (lambda value: value > 1, "above 1"),
    "bootstrap": (lambda value: value >= 100, "100 or more"),
    "near": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "length_balance": (lambda value: 0.5 <= value <= 1, "between 0.5 and 1"),
}

# Keys of older releases and of alignment-handbook: name -> (new name or None, why).
RENAMED = {
    "torch_dtype": ("dtype", "renamed in transformers 5"),
    "evaluation_strategy": ("eval_strategy", "renamed in transformers 4.46"),
    "max_seq_length": ("max_length", "renamed in TRL 0.20"),
    "warmup_ratio": ("warmup_steps", "transformers 5 takes a share below 1 as warmup_steps"),
    "no_cuda": ("use_cpu", "renamed in transformers 5"),
    "overwrite_output_dir": (None, "gone from transformers 5; a stage folder is always replaced as a whole"),
    "save_safetensors": (None, "gone from transformers 5; weights are always safetensors"),
    "group_by_length": (None, "gone from transformers 5; write train_sampling_strategy: group_by_length"),
    "max_prompt_length": (None, "gone from TRL 1.0; only max_length cuts a pair"),
    "dataset_kwargs": (None, "set by the stage itself, which hands TRL prepared rows"),
}
RENAMED_VALUES = {
    ("packing_strategy", "ffd"): ("bfd", "first-fit decreasing was replaced by best-fit decreasing in TRL 0.20"),
    ("packing_strategy", "bfd-requeue"): ("bfd_split", "renamed in TRL 0.29"),
}


def arguments(program: str, description: str, *extra: tuple[str, dict]) -> tuple[argparse.Namespace, list[str]]:
    """Parse `--config FILE` and the program's own flags; what is left are `--key value` overrides."""
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description=description,
        epilog="Any key of the file may be given as --key value; dots reach inside, as --dataset_mixture.seed 1.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", required=True, metavar="FILE", help="stage file, such as recipes/tiny/sft.yaml")
    for flag, options in extra:
        parser.add_argument(flag, **options)
    return parser.parse_known_args()


def load(path: str | Path, stage: str, overrides: list[str] = ()) -> Recipe:
    """Read, override, map and check one stage file. Raises UserError with everything that is wrong with it."""
    path = need_file(path, "configuration", "--config")
    values, lines = read_yaml(path)
    recipe = Recipe(path, stage, values, lines)
    apply_overrides(recipe, list(overrides))
    map_renamed(recipe)
    problems = check(recipe)
    if problems:
        raise UserError("\n       ".join(problems))
    return recipe


def read_yaml(path: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """A YAML mapping and the line of each of its keys (nested keys joined by dots, list items by number)."""
    text = path.read_text(encoding="utf-8")
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {error.problem or error.context}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a mapping of keys to values, found {type(values).__name__}")
    lines: dict[str, int] = {}
    _note_lines(tree, "", lines, path)
    return values, lines


def _note_lines(node: yaml.Node, prefix: str, lines: dict[str, int], path: Path) -> None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            if name in lines:
                raise UserError(
                    f"{path}:{key.start_mark.line + 1}: key {name} is given twice (first on line {lines[name]})"
                )
            lines[name] = key.start_mark.line + 1
            _note_lines(value, f"{name}.", lines, path)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            lines[f"{prefix}{number}"] = value.start_mark.line + 1
            _note_lines(value, f"{prefix}{number}.", lines, path)


def apply_overrides(recipe: Recipe, words: list[str]) -> None:
    """Lay `--key value` or `--key=value` words over the file's values; values are read as YAML."""
    while words:
        word = words.pop(0)
        if not word.startswith("--"):
            raise UserError(f"command line: expected --key value, found {word!r}")
        name, _, text = word[2:].partition("=")
        if "=" not in word:
            if not words or (words[0].startswith("--") and not re.match(r"^-?-?\d", words[0])):
                text = "true"
            else:
                text = words.pop(0)
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError:
            value = text
        first, dot, rest = name.partition(".")
        set_inside(recipe, first.replace("-", "_") + dot + rest, value)


def set_inside(recipe: Recipe, name: str, value: Any) -> None:
    """Set the value at a dotted name; raises UserError where the file has nothing to reach into."""
    *path, last = name.split(".")
    place: Any = recipe.values
    for step in path:
        try:
            place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
        except (ValueError, IndexError, AttributeError):
            raise UserError(f"command line: --{name}: there is no {step} to reach into in {recipe.path}") from None
    try:
        place[int(last) if isinstance(place, list) else last] = value
    except (ValueError, IndexError, TypeError):
        raise UserError(f"command line: --{name}: there is no {last} to set in {recipe.path}") from None
    recipe.lines.pop(name, None)


def map_renamed(recipe: Recipe) -> None:
    """Map keys and values that newer releases renamed; each mapping leaves one line in `recipe.notes`."""
    values = recipe.values
    if recipe.stage not in STAGE_CLASSES:
        return
    for old, (new, why) in RENAMED.items():
        if old not in values:
            continue
        where, value = recipe.where(old), values.pop(old)
        if new is None:
            recipe.notes.append(f"{where}: {old} is dropped ({why})")
        elif new in values:
            raise UserError(f"{where}: {old} and its newer name {new} are both given; keep {new}")
        else:
            values[new] = value
            if old in recipe.lines:
                recipe.lines[new] = recipe.lines[old]
            recipe.notes.append(f"{where}: {old} is read as {new} ({why})")
    for (key, old), (new, why) in RENAMED_VALUES.items():
        if values.get(key) == old:
            values[key] = new
            recipe.notes.append(f"{recipe.where(key)}: {key}: {old} is read as {new} ({why})")
    if recipe.stage == "apo" and values.get("padding_free"):
        values.pop("padding_free")
        recipe.notes.append(
            f"{recipe.where('padding_free')}: padding_free is dropped (TRL switched it off for preference training)"
        )


def known_keys(stage: str) -> dict[str, Key]:
    """Every key a stage file may hold."""
    keys = own_keys(OWN_KEYS[stage])
    for class_name in STAGE_CLASSES.get(stage, ()):
        for name, key in keys_of(class_name).items():
            keys.setdefault(name, replace(key, choices=CHOICES.get(name, key.choices)))
    return keys


def own_keys(annotations: dict[str, str]) -> dict[str, Key]:
    return {name: Key(name, annotation, CHOICES.get(name, ())) for name, annotation in annotations.items()}


def check(recipe: Recipe) -> list[str]:
    """One sentence for each unknown key and each value of the wrong type; values of the right kind are converted."""
    problems = _check_mapping(recipe, recipe.values, known_keys(recipe.stage), "")
    if recipe.stage in STAGE_CLASSES:
        for name, what in REFUSED.items():
            if recipe.values.get(name) is not None:
                problems.append(f"{recipe.where(name)}: key {name} has no effect here; {what}")
        losses = recipe.values.get("loss_type") if recipe.stage == "apo" else None
        if losses == []:
            problems.append(f"{recipe.where('loss_type')}: loss_type names no loss")
        for loss in losses if isinstance(losses, list) else [losses]:
            if loss is not None and loss not in LOSSES:
                near = difflib.get_close_matches(str(loss), LOSSES, n=1, cutoff=0.0)[0]
                problems.append(f"{recipe.where('loss_type')}: no loss_type is called {loss}; the nearest is {near}")
        if recipe.values.get("max_length", 1) is None:
            problems.append(f"{recipe.where('max_length')}: max_length must be a whole number, found null")
    if recipe.stage == "pairs":
        problems += _check_pairs(recipe)
    for name, keys in MERGE_PARTS.items() if recipe.stage == "merge" else ():
        if isinstance(recipe.values.get(name), dict):
            problems += _check_mapping(recipe, recipe.values[name], own_keys(keys), f"{name}.")
    for number, task in enumerate(recipe.values.get("tasks") or [] if recipe.stage == "eval" else []):
        if isinstance(task, dict):
            problems += _check_mapping(recipe, task, own_keys(TASK_KEYS), f"tasks.{number}.")
    if isinstance(recipe.values.get("dataset_mixture"), dict):
        problems += _check_mixture(recipe, recipe.values["dataset_mixture"])
    return problems + _check_overflow(recipe)


def _check_mixture(recipe: Recipe, mixture: dict[str, Any]) -> list[str]:
    problems = _check_mapping(recipe, mixture, own_keys(MIXTURE_KEYS), "dataset_mixture.")
    if "deduplicate_threshold" in mixture and mixture.get("deduplicate") != "near":
        where = recipe.where("dataset_mixture.deduplicate_threshold")
        problems.append(f"{where}: deduplicate_threshold has no effect without deduplicate: near")
    if "decontaminate_ngram" in mixture and not mixture.get("decontaminate"):
        where = recipe.where("dataset_mixture.decontaminate_ngram")
        problems.append(f"{where}: decontaminate_ngram has no effect without decontaminate")
    if not mixture.get("datasets"):
        problems.append(f"{recipe.where('dataset_mixture')}: dataset_mixture needs a list of datasets")
    for number, source in enumerate(mixture.get("datasets") or []):
        place = f"dataset_mixture.datasets.{number}"
        if not isinstance(source, dict) or "id" not in source:
            problems.append(f"{recipe.where(place)}: each dataset needs an id (Hub id or local path)")
            continue
        problems += _check_mapping(recipe, source, own_keys(SOURCE_KEYS), f"{place}.")
    for number, entry in enumerate(mixture.get("decontaminate") or []):
        place = f"dataset_mixture.decontaminate.{number}"
        if isinstance(entry, dict) and "id" in entry:
            problems += _check_mapping(recipe, entry, own_keys(EVAL_SOURCE_KEYS), f"{place}.")
        elif not isinstance(entry, str):
            problems.append(
                f"{recipe.where(place)}: expected an eval file, a data file, or a mapping with id, found {entry!r}"
            )
    return problems


def _check_pairs(recipe: Recipe) -> list[str]:
    """Sides with the keys of their engine, filters, sources of prompts, and choices that need one another."""
    values, problems, engines = recipe.values, [], set()
    for name in ("strong", "weak"):
        side = values.get(name)
        if not isinstance(side, dict):
            continue
        engine = str(side.get("engine") or ("openai" if "base_url" in side else "transformers"))
        engines.add(engine)
        wrong = _check_mapping(recipe, side, own_keys(SIDE_KEYS | ENGINE_KEYS.get(engine, {})), f"{name}.")
        if wrong:
            problems += wrong
            continue
        for key in ("model", *(("base_url",) if engine == "openai" else ())):
            if key not in side:
                problems.append(f"{recipe.where(name)}: {name} has no {key}")
        problems += _check_address(recipe, side, name)
        for key, taken in (("engine_kwargs", VLLM_OWN), ("extra_body", ("chat_template_kwargs",))):
            for own in (side.get(key) or {}).keys() & set(taken):
                told = f"{own} of {key} would go past this file; write the key {own} itself"
                problems.append(f"{recipe.where(f'{name}.{key}')}: {told}")
        if not str(side.get("api_key_env", "KEY")).isidentifier():
            problems.append(f"{recipe.where(f'{name}.api_key_env')}: api_key_env is the name of a variable, not a key")
        heat, several = side.get("temperature", values.get("temperature", 0.6)), _count(side, values) > 1
        if engine == "vllm" and isinstance(heat, float) and heat > 2:
            problems.append(f"{recipe.where(name)}: {name}: vLLM takes temperatures up to 2, found {heat}")
        if several and heat == 0:
            problems.append(f"{recipe.where(name)}: {name}: several candidates at temperature 0 are one and the same")
    if isinstance(values.get("filters"), dict):
        problems += _check_mapping(recipe, values["filters"], own_keys(FILTER_KEYS), "filters.")
    given = values.get("prompts")
    for number, source in enumerate(given if isinstance(given, list) else [given]):
        place = f"prompts.{number}" if isinstance(given, list) else "prompts"
        if isinstance(source, dict):
            problems += _check_mapping(recipe, source, own_keys(SOURCE_KEYS), f"{place}.")
            if "format" in source:
                problems.append(f"{recipe.where(f'{place}.format')}: key format has no effect on prompts")
            local = isinstance(source.get("id"), str) and Path(source["id"]).exists()
            for key in hub_keys(source) if local else ():
                told = f"key {key} belongs to Hub datasets and has no effect on a local file"
                problems.append(f"{recipe.where(f'{place}.{key}')}: {told}")
            if isinstance(source.get("weight"), float) and source["weight"] > 1:
                problems.append(f"{recipe.where(f'{place}.weight')}: a prompt is asked once; weight is at most 1 here")
        if not isinstance(source, (str, dict, type(None))) or (isinstance(source, dict) and "id" not in source):
            problems.append(f"{recipe.where(place)}: a source of prompts is a path, a Hub id, or a mapping with id")
    filters = values.get("filters") or {}
    if isinstance(filters, dict):
        if filters.get("languages") and not filters.get("language"):
            problems.append(f"{recipe.where('filters.languages')}: languages has no effect without language: true")
        least, most = filters.get("min_tokens", 1), filters.get("max_tokens")
        if isinstance(least, int) and isinstance(most, int) and least > most:
            problems.append(f"{recipe.where('filters.min_tokens')}: min_tokens is above max_tokens")
    if "tie_break" in values and values.get("length_balance"):
        problems.append(f"{recipe.where('tie_break')}: tie_break has no effect beside length_balance")
    if "reference" in values and not values.get("verifier"):
        problems.append(f"{recipe.where('reference')}: reference has no effect without a verifier")
    if engines and "transformers" not in engines and "batch_size" in values:
        problems.append(f"{recipe.where('batch_size')}: batch_size has no effect, since no side is of transformers")
    arguments = values.get("chat_template_kwargs")
    if isinstance(arguments, dict) and "enable_thinking" in arguments:
        problems.append(f"{recipe.where('chat_template_kwargs')}: the mode is told by mode, not by enable_thinking")
    if values.get("format", "jsonl") not in PAIRS_FORMATS:
        problems.append(f"{recipe.where('format')}: key format must be one of {', '.join(PAIRS_FORMATS)}")
    if values.get("keep") in ("right_over_wrong", "right_over_any") and not values.get("verifier"):
        problems.append(f"{recipe.where('keep')}: keep: {values['keep']} needs a verifier to know what is right")
    return problems


def hub_keys(source: dict[str, Any]) -> list[str]:
    """Keys of a source that only a dataset of the Hub has a use for."""
    return [k for k in ("config", "split", "revision", "streaming") if source.get(k) not in (None, "train", False)]


def _count(side: dict[str, Any], values: dict[str, Any]) -> int:
    """Candidates of a side; a value of another type is told elsewhere."""
    count = side.get("candidates", values.get("candidates", 1))
    return count if isinstance(count, int) else 1


def _check_address(recipe: Recipe, side: dict[str, Any], name: str) -> list[str]:
    """An endpoint's address that is none, or holds what belongs into the environment."""
    where, address = recipe.where(f"{name}.base_url"), str(side.get("base_url", ""))
    try:
        parts = urlsplit(address)
    except ValueError as error:
        return [f"{where}: base_url {address!r} is no address: {error}"]
    if "@" in parts.netloc:
        return [f"{where}: no name or password in base_url; see api_key_env"]
    if address and parts.scheme not in ("http", "https"):
        return [f"{where}: base_url begins with http:// or https://, found {address!r}"]
    return []


def _check_overflow(recipe: Recipe) -> list[str]:
    """`overflow` says what becomes of a document longer than `max_length`, where anything is left to say."""
    values = recipe.values
    overflow, strategy = values.get("overflow"), values.get("packing") and values.get("packing_strategy")
    where = recipe.where("overflow")
    if recipe.stage == "apo" and overflow == "split":
        return [f"{where}: a pair cannot be split; overflow is truncate or drop"]
    if overflow and strategy == "wrapped":
        return [f"{where}: key overflow has no effect here; wrapped packing cuts the stream of all documents"]
    if overflow not in (None, "split") and strategy == "bfd_split":
        return [f"{where}: overflow: {overflow} and packing_strategy: bfd_split contradict each other"]
    return []


def _check_mapping(recipe: Recipe, values: dict, keys: dict[str, Key], prefix: str) -> list[str]:
    problems = []
    for name, value in values.items():
        place = recipe.where(prefix + str(name))
        if name not in keys:
            near = difflib.get_close_matches(str(name), keys, n=1, cutoff=0.0)
            hint = f"; the nearest known key is {near[0]}" if near else ""
            problems.append(f"{place}: unknown key {prefix}{name}{hint}")
            continue
        try:
            values[name] = convert(value, keys[name])
        except ValueError as error:
            problems.append(f"{place}: key {prefix}{name} must be {error}, found {value!r}")
            continue
        within, words = BOUNDS.get(name, (None, ""))
        if within and values[name] is not None and not within(values[name]):
            problems.append(f"{place}: {name} must be {words}, found {value}")
    return problems


WORDS = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "dict": "a mapping"}


def convert(value: Any, key: Key) -> Any:
    """`value` as the key's annotation asks for it. Raises ValueError with what was expected, in words.

    YAML reads `1e-4` (no dot) as text; for a number that text is converted rather than refused.
    """
    options = [option.strip() for option in _split_union(key.annotation)]
    if value is None:
        if "None" in options or not any(o in WORDS for o in options):
            return None
        raise ValueError(" or ".join(WORDS.get(o, o) for o in options))
    if key.choices and value not in key.choices:
        raise ValueError("one of " + ", ".join(key.choices))
    for option in options:
        base = option.split("[")[0]
        if base == "bool" and isinstance(value, bool):
            return value
        if base == "int" and isinstance(value, int) and not isinstance(value, bool):
            return value
        if base == "float" and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        if base == "dict" and isinstance(value, dict):
            if any(
                not isinstance(k, str) or (option == "dict[str, str]" and not isinstance(v, str))
                for k, v in value.items()
            ):
                raise ValueError(
                    "a mapping from text to text" if option == "dict[str, str]" else "a mapping with text keys"
                )
            return value
        if base == "list" and isinstance(value, list):
            if option == "list[str]" and not all(isinstance(v, str) for v in value):
                raise ValueError("a list of text")
            return value
    for option in options:
        base = option.split("[")[0]
        if base in ("int", "float") and isinstance(value, str):
            try:
                return int(value) if base == "int" else float(value)
            except ValueError:
                continue
        if base == "list" and not isinstance(value, dict) and "str" not in options:
            return [value]
    known = {"bool", "int", "float", "dict", "list", "None"}
    if any(o.split("[")[0] not in known for o in options):
        # Text, or an enumeration that the library takes as text. YAML's unquoted no and off are booleans.
        if isinstance(value, bool):
            if key.annotation.endswith("Strategy | str") and value is False:
                return "no"
            raise ValueError("text")
        if isinstance(value, (str, int, float)):
            return value if isinstance(value, str) else str(value)
    raise ValueError(
        " or ".join(WORDS.get(o.split("[")[0], "a list" if o.startswith("list") else o) for o in options if o != "None")
    )


def _split_union(annotation: str) -> list[str]:
    """`dict[str, Any] | None` as its members; bars inside brackets do not split."""
    parts, depth, current = [], 0, ""
    for character in annotation:
        depth += {"[": 1, "]": -1}.get(character, 0)
        if character == "|" and depth == 0:
            parts.append(current)
            current = ""
        else:
            current += character
    return [*parts, current]
