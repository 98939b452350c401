"""Soup and merge, into whole folders.

    python -m merge --config recipes/tiny/merge.yaml

The soup averages every APO member with equal weights; the merge mixes soup and mid-training checkpoint as the file
says (SmolLM3: linear, 0.9 and 0.1). mergekit defines what a merge file means and runs every method; plain linear
averages of local models take the short way of `merge/linear.py`, which gives the same bits. Inputs are checked first,
and the folder is completed with tokenizer, template, generation settings and a card.
"""

import json
import logging
import shutil
import warnings
from pathlib import Path
from typing import Any

from merge.adapters import with_whole_models
from merge.card import write_card
from merge.checks import TOKENIZER_KEYS, check_merge
from merge.linear import run_linear
from merge.plan import Linear, folder_of, plain_linear, referenced
from merge.tensors import stored_tensors
from pipeline.errors import UserError, told_by_library
from pipeline.recipe import Recipe
from pipeline.stage import Stage, hidden_sibling

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
    adapters = hidden_sibling(stage.folder, "adapters")
    config = with_whole_models(config, adapters, where)
    check_merge(config, [str(f) for f in linear.folders] if linear else referenced(config), stage.folder.parent, where)
    options = recipe.values.get("options") or {}
    linear = linear or (None if options else plain_linear(config))
    final = stage.begin() / "final"
    shutil.rmtree(final, ignore_errors=True)
    final.mkdir()
    if linear:
        run_linear(linear, final, where, stage.name)
        parent = str(linear.folders[0])
        write_config(final, linear)
        copy_tokenizer(Path(parent), final)
    else:
        run_mergekit(config, options, final, where)
        parent = (config.get("models") or [{}])[0].get("model") or referenced(config)[0]
    complete(final, parent, recipe.values.get("long_context") if stage.name == "merged" else None, where)
    write_card(final, stage.name, named, models)
    shutil.rmtree(adapters, ignore_errors=True)
    facts = {"method": config["merge_method"], "models": [Path(m).name for m in models]}
    facts["by"] = "merge/linear.py" if linear else "mergekit"
    stage.finish(final, facts | {"tensors": len(stored_tensors(final, where))})


def run_mergekit(config: dict[str, Any], options: dict[str, Any], folder: Path, where: str) -> None:
    """mergekit's own merge, kept off the network where everything is local."""
    from mergekit.config import MergeConfiguration
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions
    from pydantic import ValidationError

    try:
        parsed = MergeConfiguration.model_validate(config)
    except ValidationError as error:
        first = error.errors()[0]
        raise UserError(f"{where}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    for what, keys, known in (
        ("merge", config, MergeConfiguration.model_fields),
        ("options", options, MergeOptions.model_fields),
    ):
        for key in keys:
            if key not in known:
                raise UserError(f"{where}: unknown key {what}.{key}; mergekit knows {', '.join(sorted(known))}")
    local = all(folder_of(m) for m in referenced(config))
    named = any(config.get(key) for key in TOKENIZER_KEYS)
    # The card is ours to write; mergekit's asks the Hub about every local folder.
    fixed = {"write_model_card": False, "quiet": True}
    logging.disable(logging.WARNING)  # mergekit tells the root logger how it read the architecture
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        with told_by_library(f"{where}: mergekit refuses the merge", (RuntimeError, ValueError, KeyError, OSError)):
            run_merge(parsed, str(folder), MergeOptions(**{"copy_tokenizer": named or not local, **options, **fixed}))
    if local and not named:
        copy_tokenizer(folder_of(referenced(config)[0]), folder)


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


def complete(folder: Path, parent: str, long_context: dict[str, Any] | None, where: str) -> None:
    """Give a merged folder generation settings, and the YaRN scaling that the recipe asks for (arXiv 2309.00071)."""
    settings = parent_generation(parent)
    ends = settings.get("eos_token_id")
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    # The end of turn must stop generation, whatever else did in the parent.
    end = token_id(folder, "eos_token")
    ends = list(dict.fromkeys([*([] if end is None else [end]), *ends]))
    pad = settings.get("pad_token_id")
    pad = token_id(folder, "pad_token") if pad is None else pad
    kept = {**GENERATION, "eos_token_id": ends, "pad_token_id": pad if pad is not None else end}
    (folder / "generation_config.json").write_text(json.dumps(kept, indent=2) + "\n")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["use_cache"] = True
    if long_context:
        config |= scaled(config, long_context, where)
    path.write_text(json.dumps(config, indent=2) + "\n")


def scaled(config: dict[str, Any], long_context: dict[str, Any], where: str) -> dict[str, Any]:
    """`rope_parameters` of YaRN: the factor over the context that the model was trained for, and the longer limit."""
    factor = long_context["factor"]
    original = long_context.get("original_max_position_embeddings") or config.get("max_position_embeddings")
    rope = config.get("rope_parameters") or {}
    if rope.get("rope_type", "default") not in ("default", "yarn"):
        raise UserError(
            f"{where}: the model already scales its positions by {rope['rope_type']}; leave long_context out"
        )
    theta = rope.get("rope_theta") or config.get("rope_theta")
    yarn = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
    if theta is not None:
        yarn["rope_theta"] = theta
    return {"rope_parameters": yarn, "max_position_embeddings": int(original * factor)}


def parent_generation(parent: str) -> dict[str, Any]:
    """The generation settings of a model; none where it has none."""
    folder = folder_of(parent)
    if folder:
        file = folder / "generation_config.json"
        return json.loads(file.read_text()) if file.is_file() else {}
    from transformers import GenerationConfig

    name, _, revision = parent.partition("@")
    try:
        return GenerationConfig.from_pretrained(name, revision=revision or None).to_dict()
    except OSError:
        return {}


def token_id(folder: Path, name: str) -> int | None:
    """The id of a special token of the folder's tokenizer, or None where it has no such token."""
    from tokenizers import Tokenizer

    settings, tokens = folder / "tokenizer_config.json", folder / "tokenizer.json"
    if not settings.is_file() or not tokens.is_file():
        return None
    token = json.loads(settings.read_text(encoding="utf-8")).get(name)
    token = token.get("content") if isinstance(token, dict) else token
    return None if token is None else Tokenizer.from_file(str(tokens)).token_to_id(token)
