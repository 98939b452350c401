"""Stage files as text: every key below its meaning, which comes from where the key is declared."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from apo_soup.config.in_words import mappings_inside

LINE_WIDTH = 120
# Library keys whose own help tells too little, or too much for a line.
MEANINGS = {
    "lora_r": "rank of the adapter",
    "lora_alpha": "scale of the adapter: its change counts lora_alpha / lora_r times",
    "lora_dropout": "share of the adapter's inputs that is left out while training",
    "bnb_4bit_quant_type": "how the 4 bits stand for numbers: nf4 or fp4",
    "use_bnb_nested_quant": "quantise the scales of the 4 bits too",
    "bf16": "compute in bfloat16, which a GPU of 2020 or later does",
    "gradient_checkpointing": "compute activations again in the backward pass: less memory, about a quarter more time",
    "lr_scheduler_type": "how the learning rate changes over the steps",
    "lr_scheduler_kwargs": "what that schedule is told",
    "warmup_steps": "steps, or share of the steps, in which the learning rate rises from 0",
    "logging_steps": "steps between two lines of the log",
    "save_strategy": "when checkpoints are kept: no, epoch, steps or best",
    "save_steps": "steps, or share of the steps, between two checkpoints",
    "precompute_ref_log_probs": "score the pairs with the reference model once, before the training",
    "num_train_epochs": "passes over the rows",
    "max_grad_norm": "longest gradient that a step takes as it is; a longer one is shortened to it",
    "save_total_limit": "most checkpoints that are kept",
}


def commented_yaml(model: type[BaseModel], parts: Sequence[dict[str, Any]], depth: int = 0) -> str:
    """The keys of a file in YAML, each below its meaning; a blank line between two parts.

    Args:
        model: the typed model of the file.
        parts: its keys and values.
        depth: how many levels the text is indented.
    """
    texts = ("\n".join(_lines(model, part, "  " * depth, set())) for part in parts if part)
    return "\n\n".join(texts) + "\n"


def meaning(model: type[BaseModel], name: str) -> str | None:
    """A key's meaning in a line; None where nothing tells it."""
    field = model.model_fields.get(name)
    told = MEANINGS.get(name) or (field.description if field else None)
    if not told:
        return None
    first = re.split(r"(?<=[^.])\. (?=[A-Z])|[;:] (?=without it|by default)", told.replace("%%", "%"))[0].rstrip(".")
    most = LINE_WIDTH - 8
    first = first if len(first) <= most else first.partition("; ")[0]
    return first if len(first) <= most else first[: most - 4].rsplit(" ", 1)[0] + " ..."


def _lines(model: type[BaseModel] | None, values: dict[str, Any], indent: str, said: set[str]) -> Iterator[str]:
    """Lines of a mapping; `said` are the keys whose meaning stands above already."""
    for name, value in values.items():
        told = meaning(model, name) if model else None
        if told and name not in said:
            yield f"{indent}# {told}"
        said.add(name)
        field = model.model_fields.get(name) if model else None
        inside = list(mappings_inside(field.annotation)) if field else []
        if inside and isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from _lines(_of_kind(inside, value), value, indent + "  ", set())
        elif isinstance(value, list) and value and all(isinstance(entry, dict) for entry in value):
            yield f"{indent}{name}:"
            of_list: set[str] = set()
            for entry in value:
                yield from _entry(_of_kind(inside, entry), entry, indent + "  ", of_list)
        else:
            yield f"{indent}{name}: {_value(value, indent)}"


def _entry(model: type[BaseModel] | None, values: dict[str, Any], indent: str, said: set[str]) -> Iterator[str]:
    """Lines of a mapping in a list; what is said of its first key stands above the dash."""
    begun = False
    for line in _lines(model, values, indent + "  ", said):
        if begun or line.lstrip().startswith("#"):
            yield line if begun else indent + line.lstrip()
        else:
            yield f"{indent}- {line.lstrip()}"
            begun = True


def _of_kind(models: Sequence[type[BaseModel]], values: dict[str, Any]) -> type[BaseModel] | None:
    """The one of several models that a mapping is of: the one whose `kind` it has, else the first with its keys."""
    for model in models:
        kind = model.model_fields.get("kind")
        if kind is not None and values.get("kind") in getattr(kind.annotation, "__args__", ()):
            return model
    return next((model for model in models if values.keys() <= model.model_fields.keys()), None)


def _value(value: Any, indent: str) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10**6, sort_keys=False)
    text = text.removesuffix("\n").removesuffix("\n...")
    return re.sub(r"(?<=e[+-])0", "", text) if isinstance(value, float) else text
