"""Soup and merge, into whole folders.

    python -m merge --config recipes/tiny/merge.yaml

The soup averages every APO member with equal weights; the merge mixes soup and mid-training checkpoint as the file
says (SmolLM3: linear, 0.9 and 0.1). mergekit defines what a merge file means and runs every method; plain linear
averages of local models take the short way of `merge/linear.py`, which gives the same bits. Inputs are checked first,
and the folder is completed with tokenizer, template, generation settings and a card.
"""

import difflib
import json
import logging
import math
import shutil
import warnings
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from apo_soup.config.recipe import Recipe
from apo_soup.errors import UserError, first_line, read_json, told_by_library
from apo_soup.runs.card import told_model, write_card
from apo_soup.runs.inputs import hub_commit
from apo_soup.runs.stage import Stage, hidden_sibling
from merge.adapters import is_adapted, with_whole_models
from merge.checks import TOKENIZER_KEYS, check_adapters, check_merge, check_weights
from merge.linear import pieces, run_linear, same_as_mergekit
from merge.plan import Linear, plain_linear, referenced, with_models
from merge.tensors import stored_tensors

# Options of mergekit's that are decided here: name -> why.
OURS = {
    "safe_serialization": "weights are always safetensors",
    "write_model_card": "the card is written with the line of parents",
    "quiet": "progress is told by this program",
    "verbosity": "progress is told by this program",
    "lora_merge_dtype": "adapters are merged by peft before the average",
    "lora_merge_cache": "adapters are merged by peft before the average",
    "allow_crimes": "models of different architectures are refused first",
    "unsafe_truncate_embeddings": "models with different vocabularies need tokenizer_source",
}
GPU_OPTIONS = ("cuda", "multi_gpu", "low_cpu_memory", "read_to_gpu", "gpu_rich")
MODEL_PATTERNS = ["README.md", "*.safetensors", "*.json", "*.jinja", "*.model", "*.txt"]
GENERATION = {"do_sample": True, "temperature": 0.6, "top_p": 0.95}
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "tokenizer.model",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)


def run(stage: Stage, config: dict[str, Any], recipe: Recipe, where: str, linear: Linear | None = None) -> None:
    """Run one merge and put its folder into place.

    Args:
        linear: the merge as a linear average, where it is not what `config` says word for word (one pass).

    Raises:
        UserError: the configuration or the models make no sense, or mergekit refuses them.
    """
    named = config
    models = [str(f) for f in linear.folders] if linear else referenced(named)
    options = checked_options(recipe.values.get("options") or {}, recipe.where("options"))
    long_context = recipe.values.get("long_context") if stage.name == "merged" else None
    adapters = hidden_sibling(stage.folder, "adapters")
    check_device(options, recipe.where("options"))
    if linear is None and (options or plain_linear(config) is None):
        parsed(config, options, where)
    shutil.rmtree(adapters, ignore_errors=True)  # what a killed merge left may be of other weights
    try:
        config = with_snapshots(config, where)
        adapted = [tuple(map(Path, m.split("+"))) for m in referenced(config) if is_adapted(m)]
        if adapted:
            check_weights(config, where)
            check_adapters(adapted, stage.folder.parent, where)
        config = with_whole_models(config, adapters, where)
        folders = list(linear.folders) if linear else [Path(m) for m in referenced(config)]
        check_merge(config, [str(f) for f in folders], stage.folder.parent, where)
        first = linear.folders[0] if linear else Path(config.get("base_model") or folders[0])
        parent_config = read_json(first / "config.json", where)
        if long_context:
            scaled(parent_config, long_context, where)
        linear = linear or (None if options else plain_linear(config))
        if linear and not same_as_mergekit(linear, where):
            linear = None
        final = stage.begin() / "final"
        shutil.rmtree(final, ignore_errors=True)
        final.mkdir()
        with told_by_library(f"{where}: {stage.folder.parent}", (OSError,)):
            if linear:
                run_linear(linear, final, where, stage.name)
                write_config(final, linear)
                copy_tokenizer(first, final)
            else:
                run_mergekit(config, options, first, final, where)
        complete(final, first, long_context, where)
        write_card(final, stage.name, named, models, stage.folder.parent)
    finally:
        shutil.rmtree(adapters, ignore_errors=True)
    told = [told_model(m, stage.folder.parent) for m in models]
    facts = {"method": config["merge_method"], "models": told}
    facts["by"] = "merge/linear.py" if linear else "mergekit"
    stage.finish(final, facts | {"tensors": len(stored_tensors(final, where))})


def with_snapshots(config: dict[str, Any], where: str) -> dict[str, Any]:
    """A mergekit configuration in which every model of the Hub is a folder of its files, fetched now.

    So models of the Hub are checked, merged and completed as local ones are, at the commit that the manifest names.
    """
    return with_models(config, lambda model: snapshot(model, where))


def snapshot(model: str, where: str) -> str:
    """A model as a folder, or `base+adapter` as two; a path stays as it is. Raises UserError where the Hub has none."""
    if Path(model).exists():
        return model
    if "+" in model:
        return "+".join(snapshot(part, where) for part in model.split("+"))
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError, LocalEntryNotFoundError

    name, _, revision = model.partition("@")
    commit = hub_commit("model", name, revision or None)
    with told_by_library(f"{where}: {model} cannot be fetched from the Hub", (HTTPError, LocalEntryNotFoundError)):
        return snapshot_download(name, revision=commit, allow_patterns=MODEL_PATTERNS)


def checked_options(options: dict[str, Any], where: str) -> dict[str, Any]:
    """mergekit's options less those that this program decides; raises UserError where one of these is given."""
    for key, why in OURS.items():
        if key in options:
            raise UserError(f"{where}: options.{key} has no effect here; {why}")
    return options


def parsed(config: dict[str, Any], options: dict[str, Any], where: str) -> Any:
    """mergekit's own reading of a merge file, and of the options that go with it.

    Raises:
        UserError: a key or parameter that mergekit does not know, or a file that it refuses.
    """
    from mergekit.config import MergeConfiguration
    from mergekit.merge_methods.registry import registered_methods
    from mergekit.options import MergeOptions
    from pydantic import ValidationError

    specs = {m.spec.name: {p.name for p in m.spec.parameters} for m in registered_methods()}
    method = str(config.get("merge_method"))
    if method not in specs:
        near = difflib.get_close_matches(method, specs, n=1, cutoff=0.0)[0]
        raise UserError(f"{where}: mergekit has no merge_method {method}; the nearest is {near}")
    try:
        read = MergeConfiguration.model_validate(config)
        read_options = MergeOptions.model_validate(options)
        refuse_unread(config, read, "merge", where)
        refuse_unread(options, read_options, "options", where)
    except ValidationError as error:
        wrong = error.errors()[0]
        raise UserError(f"{where}: {'.'.join(map(str, wrong['loc']))}: {wrong['msg']}") from error
    except (RuntimeError, TypeError, AttributeError) as error:
        raise UserError(f"{where}: mergekit refuses the file: {first_line(error)}") from error
    # mergekit passes over a parameter that its method does not read.
    known = specs[method] | {"scale", "int8_mask"}
    for name in parameter_names(config):
        if name not in known:
            raise UserError(f"{where}: {method} has no parameter {name}; it has {', '.join(sorted(known))}")
    check_template(config.get("chat_template"), where)
    return read


def refuse_unread(given: Any, read: Any, path: str, where: str) -> None:
    """Raise UserError for a key of a mergekit file that its schema has no field for; pydantic would drop it."""
    if isinstance(given, list) and isinstance(read, (list, tuple)):
        for number, (one, other) in enumerate(zip(given, read, strict=False)):
            refuse_unread(one, other, f"{path}.{number}", where)
    elif isinstance(given, dict):
        known = getattr(type(read), "model_fields", None)
        for key, value in given.items():
            if known is not None and key not in known:
                raise UserError(f"{where}: unknown key {path}.{key}; mergekit knows {', '.join(sorted(known))}")
            inner = read.get(key) if isinstance(read, dict) else getattr(read, key, None)
            refuse_unread(value, inner, f"{path}.{key}", where)


def parameter_names(node: Any) -> list[str]:
    """The names below every key `parameters` of a mergekit file, wherever it stands."""
    if isinstance(node, list):
        return [name for value in node for name in parameter_names(value)]
    if not isinstance(node, dict):
        return []
    own = list(node["parameters"]) if isinstance(node.get("parameters"), dict) else []
    return own + [name for key, value in node.items() if key != "parameters" for name in parameter_names(value)]


def check_template(template: str | None, where: str) -> None:
    """Refuse a chat_template that mergekit does not know: it would drop the tokenizer and go on."""
    from mergekit._data import chat_templates

    if template is None or template == "auto" or "{" in template:
        return
    known = sorted(f.name.removesuffix(".jinja") for f in files(chat_templates).iterdir() if f.name.endswith(".jinja"))
    if template not in known:
        raise UserError(f"{where}: chat_template {template} is neither Jinja text nor one of auto, {', '.join(known)}")


def check_device(options: dict[str, Any], where: str) -> None:
    """Refuse options for a GPU on a machine without one."""
    asked = next((k for k in GPU_OPTIONS if options.get(k)), None)
    asked = asked or ("device" if str(options.get("device", "")).startswith("cuda") else None)
    if asked and not torch.cuda.is_available():
        raise UserError(f"{where}: options.{asked} needs a GPU, and torch finds none here")


def run_mergekit(config: dict[str, Any], options: dict[str, Any], first: Path, folder: Path, where: str) -> None:
    """mergekit's own merge of local folders; configuration and tokenizer are those of the folder `first`."""
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    read = parsed(config, options, where)
    named = any(config.get(key) for key in TOKENIZER_KEYS)
    # The card is ours to write; mergekit's asks the Hub about every local folder.
    fixed = {"write_model_card": False, "quiet": True}
    logging.disable(logging.WARNING)  # mergekit tells the root logger how it read the architecture
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        with told_by_library(f"{where}: mergekit refuses the merge", (RuntimeError, ValueError, KeyError, OSError)):
            settings = MergeOptions(**{"copy_tokenizer": named, **options, **fixed})
            if settings.num_threads is not None:  # mergekit's own program sets it, and not its function
                torch.set_num_threads(settings.num_threads)
            run_merge(read, str(folder), settings)
    for name, stored in stored_tensors(folder, where).items():
        if stored.dtype.is_floating_point and not all(stored.read(*p).isfinite().all() for p in pieces(stored.count)):
            raise UserError(f"{where}: tensor {name} of the merge holds values that are not finite")
    if not named:
        copy_tokenizer(first, folder)
    elif not (folder / "tokenizer_config.json").is_file():
        raise UserError(f"{where}: mergekit wrote no tokenizer; see its words above")
    # mergekit takes the configuration of any of the models; what it changed in it (layers, vocabulary, type) stays.
    made, whole = read_json(folder / "config.json", where), read_json(first / "config.json", where)
    whole.pop("torch_dtype", None)
    changed = ("architectures", "num_hidden_layers", "vocab_size", "dtype", "torch_dtype")
    whole |= {key: made[key] for key in changed if key in made}
    (folder / "config.json").write_text(json.dumps(whole, indent=2) + "\n")


def copy_tokenizer(parent: Path, folder: Path) -> None:
    """The parent's tokenizer and template, byte by byte."""
    for name in TOKENIZER_FILES:
        if (parent / name).is_file():
            shutil.copyfile(parent / name, folder / name)


def write_config(folder: Path, linear: Linear) -> None:
    """The first model's configuration, with the type that the weights were written in."""
    config = json.loads((linear.folders[0] / "config.json").read_text())
    config.pop("torch_dtype", None)
    (written, *_) = stored_tensors(folder, str(folder)).values()
    config["dtype"] = str(written.dtype).removeprefix("torch.")
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def complete(folder: Path, parent: Path, long_context: dict[str, Any] | None, where: str) -> None:
    """Give a merged folder generation settings, and the YaRN scaling that the recipe asks for (arXiv 2309.00071)."""
    file, path = parent / "generation_config.json", folder / "config.json"
    settings = read_json(file, where) if file.is_file() else {}
    config = read_json(path, where)
    settings.setdefault("eos_token_id", config.get("eos_token_id"))
    ends = settings.get("eos_token_id")
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    # The end of turn must stop generation, whatever else did in the parent.
    end = token_id(folder, "eos_token")
    ends = list(dict.fromkeys([*([] if end is None else [end]), *ends]))
    pad = settings.get("pad_token_id")
    pad = token_id(folder, "pad_token") if pad is None else pad
    usual = {} if GENERATION.keys() & settings.keys() else GENERATION
    own = {k: v for k, v in settings.items() if not k.startswith("_") and k != "transformers_version"}
    kept = {**usual, **own, "eos_token_id": ends or None, "pad_token_id": pad if pad is not None else end}
    (folder / "generation_config.json").write_text(json.dumps(kept, indent=2) + "\n")
    config["use_cache"] = True
    if long_context:
        config = scaled(config, long_context, where)
    path.write_text(json.dumps(config, indent=2) + "\n")


def scaled(config: dict[str, Any], long_context: dict[str, Any], where: str) -> dict[str, Any]:
    """A configuration with the `rope_parameters` of YaRN: the factor over the context that the model was trained for,
    and the longer limit. What else the model says of its positions stays.

    Raises:
        UserError: no factor, or positions that are scaled otherwise, or differ from layer to layer.
    """
    factor = long_context.get("factor")
    if factor is None or not math.isfinite(factor):
        raise UserError(f"{where}: long_context needs a factor, such as 2, found {factor}")
    # Older configurations write the same under rope_scaling, which transformers reads first.
    older = {**(config.get("rope_scaling") or {}), "rope_theta": config.get("rope_theta")}
    rope = {k: v for k, v in (older | (config.get("rope_parameters") or {})).items() if v is not None}
    kind = rope.pop("type", None) or rope.get("rope_type", "default")
    if any(isinstance(value, dict) for value in rope.values()):
        raise UserError(f"{where}: the model's positions differ from layer to layer; leave long_context out")
    if kind not in ("default", "yarn"):
        raise UserError(f"{where}: the model already scales its positions by {kind}; leave long_context out")
    trained = rope.get("original_max_position_embeddings") or config.get("max_position_embeddings")
    original = long_context.get("original_max_position_embeddings") or trained
    yarn = {**rope, "rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    kept = {k: v for k, v in config.items() if k not in ("rope_scaling", "rope_theta")}
    return kept | {"rope_parameters": yarn, "max_position_embeddings": int(original * factor)}


def token_id(folder: Path, name: str) -> int | None:
    """The id of a special token of the folder's tokenizer, or None where it has no such token."""
    from tokenizers import Tokenizer

    settings, tokens = folder / "tokenizer_config.json", folder / "tokenizer.json"
    if not settings.is_file() or not tokens.is_file():
        return None
    token = read_json(settings, folder).get(name)
    token = token.get("content") if isinstance(token, dict) else token
    return None if token is None else Tokenizer.from_file(str(tokens)).token_to_id(token)
