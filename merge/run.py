"""Soup and merge with mergekit, into whole folders.

    python -m merge --config recipes/tiny/merge.yaml

The soup averages every APO member with equal weights; the merge mixes soup and mid-training checkpoint as the file
says (SmolLM3: linear, 0.9 and 0.1). mergekit reads, averages and writes the tensors; this module checks its inputs
first, keeps it off the network, and completes the folder with tokenizer, template and generation settings.
"""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from mergekit.config import MergeConfiguration
from mergekit.merge import run_merge
from mergekit.options import MergeOptions
from pydantic import ValidationError
from safetensors import safe_open
from transformers import AutoTokenizer, GenerationConfig

from merge.plan import GENERATION, referenced
from pipeline.errors import UserError, told_by_library
from pipeline.stage import Stage


def run(stage: Stage, config: dict[str, Any], where: str) -> None:
    """Run one merge and put its folder into place.

    Raises:
        UserError: mergekit refuses the configuration, or the models do not fit together.
    """
    try:
        parsed = MergeConfiguration.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    for key in config:
        if key not in MergeConfiguration.model_fields:
            known = ", ".join(sorted(MergeConfiguration.model_fields))
            raise UserError(f"{where}: unknown key merge.{key}; mergekit knows {known}")
    local = [Path(m) for m in referenced(config) if Path(m).is_dir()]
    check_alike(local, where)
    final = stage.begin() / "final"
    logging.disable(logging.WARNING)  # mergekit tells the root logger how it read the architecture
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        # The card is ours to write; mergekit's asks the Hub about every local folder.
        keeps = any(config.get(key) for key in ("tokenizer", "tokenizer_source", "chat_template"))
        options = MergeOptions(write_model_card=False, quiet=True, copy_tokenizer=keeps or not local)
        first = (config.get("models") or [{}])[0].get("model") or referenced(config)[0]
        with told_by_library(f"{where}: mergekit refuses the merge", (RuntimeError, ValueError, KeyError, OSError)):
            run_merge(parsed, str(final), options)
            complete(final, first, tokenizer=not keeps)
    models = [Path(m).name for m in referenced(config)]
    stage.finish(final, {"method": config["merge_method"], "models": models, "tensors": len(tensor_shapes(final))})


def complete(folder: Path, parent: str, tokenizer: bool) -> None:
    """Give a merged folder generation settings, and its parent's tokenizer and template unless mergekit wrote them."""
    name, _, revision = (parent, "", "") if Path(parent).exists() else parent.partition("@")
    revision = revision or None
    own = AutoTokenizer.from_pretrained(name, revision=revision) if tokenizer else AutoTokenizer.from_pretrained(folder)
    if tokenizer:
        own.save_pretrained(folder)
    try:
        settings = GenerationConfig.from_pretrained(name, revision=revision)
    except OSError:
        settings = GenerationConfig()
    ends = settings.eos_token_id
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    # The end of turn must stop generation, whatever else did in the parent.
    ends = list(dict.fromkeys([own.eos_token_id, *ends]))
    pad = own.pad_token_id if settings.pad_token_id is None else settings.pad_token_id
    GenerationConfig(**GENERATION, eos_token_id=ends, pad_token_id=pad).save_pretrained(folder)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["use_cache"] = True
    path.write_text(json.dumps(config, indent=2) + "\n")


def tensor_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor in a model folder, read from the file headers."""
    shapes = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            shapes |= {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
    return shapes


def check_alike(folders: list[Path], where: str) -> None:
    """Refuse models that cannot be averaged: other architecture, tensors or shapes, or values that are not finite."""
    if not folders:
        return
    first, *others = folders
    kind = json.loads((first / "config.json").read_text()).get("architectures")
    shapes = tensor_shapes(first)
    for folder in others:
        other = json.loads((folder / "config.json").read_text()).get("architectures")
        if other != kind:
            raise UserError(f"{where}: {folder} is a {other} and {first} is a {kind}; only equal architectures merge")
        found = tensor_shapes(folder)
        for name in sorted(shapes.keys() ^ found.keys()):
            missing = folder if name in shapes else first
            raise UserError(f"{where}: tensor {name} is missing in {missing}")
        for name, shape in shapes.items():
            if found[name] != shape:
                raise UserError(
                    f"{where}: tensor {name} is {list(found[name])} in {folder} and {list(shape)} in {first}"
                )
    for folder in folders:
        for file in sorted(folder.glob("*.safetensors")):
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    if not torch.isfinite(tensors.get_tensor(name)).all():
                        raise UserError(f"{where}: tensor {name} of {file} holds values that are not finite")
