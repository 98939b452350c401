"""What a merged folder needs beside its weights: configuration, tokenizer, generation settings, long context."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from apo_soup.config.merge import LongContextKeys
from apo_soup.errors import UserError
from apo_soup.progress import say
from apo_soup.runs.model_files import TOKENIZER_FILES, file_name
from apo_soup.stored_json import read_json
from merge.own_code import copy_own_code
from merge.tensors import stored_tensors
from merge.token_ids import special_token_id, translated_ids, with_special_tokens

# SmolLM3's sampling, for a model whose parent says nothing of its own.
SAMPLING = {"do_sample": True, "temperature": 0.6, "top_p": 0.95}


def copy_tokenizer(parent: Path, folder: Path) -> None:
    """Copy the parent's tokenizer and template, byte by byte."""
    for file in (file for pattern in TOKENIZER_FILES for file in sorted(parent.glob(pattern))):
        target = folder / file_name(file, parent)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(file, target)


def write_config(folder: Path, parent: Path) -> None:
    """Write the parent's configuration, with the type that the weights were written in.

    Raises:
        UserError: the weights that were written cannot be read.
    """
    config = json.loads((parent / "config.json").read_text(encoding="utf-8"))
    for key in ("torch_dtype", "transformers_weights"):
        config.pop(key, None)
    config["dtype"] = written_dtype(folder)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def written_dtype(folder: Path) -> str:
    """The type of a folder's weights, which a configuration names: that of most numbers, where they have several.

    Raises:
        UserError: the weights cannot be read.
    """
    numbers: Counter[torch.dtype] = Counter()
    for stored in stored_tensors(folder, str(folder)).values():
        numbers[stored.dtype] += stored.count
    return str(max(numbers, key=numbers.__getitem__)).removeprefix("torch.")


def complete_folder(folder: Path, parent: Path, long_context: LongContextKeys | None, where: str) -> None:
    """Give a merged folder the parent's generation settings and code, and the long context that the recipe asks for.
    Ids of tokens are those of the folder's own tokenizer.

    Raises:
        UserError: as `yarn_config`.
    """
    path, file = folder / "config.json", parent / "generation_config.json"
    config = with_special_tokens(read_json(path, where), parent, folder)
    if isinstance(config.get("text_config"), dict):
        config["text_config"] = translated_ids(config["text_config"], parent, folder)
    theirs = translated_ids(read_json(file, where) if file.is_file() else {}, parent, folder)
    settings = generation_settings(theirs, config, folder)
    copy_own_code(parent, folder, where)
    (folder / "generation_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    config["use_cache"] = True
    if long_context:
        config = yarn_config(config, long_context, where)
    path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def generation_settings(parent: dict[str, Any], config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The parent's generation settings; SmolLM3's sampling where it has none; the end of turn always ends an answer.

    Raises:
        UserError: a model's JSON file cannot be read, or is of another form.
    """
    ends = parent.get("eos_token_id", config.get("eos_token_id"))
    ends = [] if ends is None else ends if isinstance(ends, list) else [ends]
    end = special_token_id(folder, "eos_token")
    ends = own_ends(list(dict.fromkeys([*([] if end is None else [end]), *ends])), folder)
    pad = parent.get("pad_token_id")
    pad = special_token_id(folder, "pad_token") if pad is None else pad
    sampling = {} if SAMPLING.keys() & parent.keys() else SAMPLING
    own = {k: v for k, v in parent.items() if not k.startswith("_") and k != "transformers_version"}
    return {**sampling, **own, "eos_token_id": ends or None, "pad_token_id": pad if pad is not None else end}


def own_ends(ends: list[int], folder: Path) -> list[int]:
    """The ids that end an answer, without those that the folder's tokenizer has no token for, which settings of another
    model bring along. What is left out is told, and so is an end that is an ordinary word.
    """
    file = folder / "tokenizer.json"
    if not file.is_file():
        return ends
    tokenizer = Tokenizer.from_file(str(file))
    control = tokenizer.get_added_tokens_decoder()
    # Of what stands in such files some is no number, or -1 for none.
    unknown = [e for e in ends if not isinstance(e, int) or e < 0 or tokenizer.id_to_token(e) is None]
    for end in unknown:
        say(f"note: generation_config.json: eos_token_id {end} is no token of the model, and is left out")
    for end in (e for e in ends if e not in control and e not in unknown):
        told = f"eos_token_id {end} is an ordinary token of the model, {tokenizer.id_to_token(end)!r}"
        say(f"note: generation_config.json: {told}; is it one of another tokenizer?")
    return [end for end in ends if end not in unknown]


def yarn_config(config: dict[str, Any], long_context: LongContextKeys, where: str) -> dict[str, Any]:
    """A configuration with the `rope_parameters` of YaRN (Peng et al. 2023, arXiv 2309.00071): the factor over the
    context, in tokens, that the model was trained for, and the longer limit. What else it says of its positions stays.

    Raises:
        UserError: the model has positions that are scaled otherwise, or differ from layer to layer.
    """
    # Older configurations write the same under rope_scaling, which transformers reads first.
    older = {**(config.get("rope_scaling") or {}), "rope_theta": config.get("rope_theta")}
    rope = {k: v for k, v in (older | (config.get("rope_parameters") or {})).items() if v is not None}
    kind = rope.pop("type", None) or rope.get("rope_type", "default")
    if any(isinstance(value, dict) for value in rope.values()):
        raise UserError(f"{where}: expected one rope for all layers, got one a layer; leave long_context out")
    if kind not in ("default", "yarn"):
        raise UserError(f"{where}: expected unscaled positions or YaRN, got rope_type {kind}; leave long_context out")
    trained = rope.get("original_max_position_embeddings") or config.get("max_position_embeddings")
    original = long_context.original_max_position_embeddings or trained
    if original is None:
        raise UserError(
            f"{where}.original_max_position_embeddings: expected a number of tokens, for config.json has no "
            "max_position_embeddings, got nothing; add it"
        )
    yarn = {**rope, "rope_type": "yarn", "factor": long_context.factor, "original_max_position_embeddings": original}
    kept = {k: v for k, v in config.items() if k not in ("rope_scaling", "rope_theta")}
    return kept | {"rope_parameters": yarn, "max_position_embeddings": int(original * long_context.factor)}
