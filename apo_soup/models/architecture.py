"""Whether a model folder holds a language model that transformers can build, by its files alone: no torch, for `check`
asks too. Without this transformers' own words are a traceback behind the preparation of the rows, or a warning about
layers that it draws at random.
"""

import ast
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from apo_soup.config.library_source import source_tree
from apo_soup.errors import UserError
from apo_soup.stored_json import read_json
from apo_soup.weights import read_header, weight_files

_AUTO = "models/auto/"
# The lists of classes that write text one token after another.
WRITING = ("CAUSAL_LM", "IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM")
_EMBEDDINGS = re.compile(r"(?:^|\.)(?:embed_tokens|wte|word_embeddings|embed_in)\.weight$")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")
# Keys of models whose embeddings are narrower than their layers.
_NARROW = ("word_embed_proj_dim", "embedding_size", "d_embed")


def require_language_model(folder: Path, where: str, trusted: bool = False) -> None:
    """Refuse a model folder that no class of transformers that writes text is for, or whose weights are those of
    another configuration.

    Args:
        folder: a whole local model, or an adapter, which is not looked at.
        where: `FILE:LINE: KEY` of the model.
        trusted: code that comes with the model may run, which knows its own kinds.

    Raises:
        UserError: naming the key of config.json, and what it was to be.
    """
    file = folder / "config.json"
    if not file.is_file():
        return
    config = read_json(file, where, "copy the model again")
    if trusted and config.get("auto_map"):
        return
    fault = class_fault(config) or shape_fault(folder, config, where)
    if fault:
        raise UserError(f"{where}: {file}: {fault}")


def require_reward_model(folder: Path, where: str) -> None:
    """Refuse a model folder that is no sequence classifier with one logit.

    Raises:
        UserError: naming what it is.
    """
    file = folder / "config.json"
    config = read_json(file, where, "copy the model again") if file.is_file() else {}
    classes = config.get("architectures")
    name = classes[0] if isinstance(classes, list) and classes else None
    labels = config.get("id2label")
    count = config.get("num_labels", len(labels) if isinstance(labels, dict) else 2)  # as transformers has it
    of_one = isinstance(name, str) and name.endswith("ForSequenceClassification") and count == 1
    if file.is_file() and not config.get("auto_map") and not of_one:
        got = f"{count} logits" if isinstance(name, str) and name.endswith("ForSequenceClassification") else name
        told = f"expected a reward model, a sequence classifier with one logit, got {got}"
        raise UserError(f"{where}: {told}; name another model")


def class_fault(config: Mapping[str, Any]) -> str | None:
    """What is wrong with the kind of model that a configuration names; None where transformers has a class for it.

    Raises:
        UserError: transformers is not installed.
    """
    kind, classes = config.get("model_type"), config.get("architectures")
    if config.get("auto_map") and kind not in model_types():
        return None  # whether its code may run is asked where it is loaded
    if not kind:
        return "model_type: expected the kind of a model, such as llama, got none; copy the model again"
    if kind not in model_types():
        told = f"model_type: expected a kind that transformers {version('transformers')} has a class for, got {kind}"
        return f"{told}; install a release that has it, or name another model"
    name = classes[0] if isinstance(classes, list) and classes else None
    if isinstance(name, str) and name in known_classes() and name not in writing_classes():
        told = f"architectures: expected a class that writes text, such as LlamaForCausalLM, got {name}"
        return f"{told}; name another model"
    if name is None and kind not in writing_types():
        told = f"model_type: expected a kind of model that writes text, such as llama, got {kind}"
        return f"{told}; name another model"
    return None


def shape_fault(folder: Path, config: Mapping[str, Any], where: str) -> str | None:
    """Where the headers of a folder's weights contradict its configuration: rows and width of the embeddings, and
    layers that are not there; None where they agree, or cannot be compared.

    Raises:
        UserError: a header cannot be read.
    """
    if config.get("quantization_config") or "text_config" in config:
        return None
    shapes = {name: entry.shape for file in weight_files(folder) for name, entry in read_header(file, where).items()}
    width = None if any(config.get(name) for name in _NARROW) else config.get("hidden_size", config.get("n_embd"))
    for name, shape in shapes.items():
        if not _EMBEDDINGS.search(name) or len(shape) != 2:
            continue
        for key, said, stored in (("vocab_size", config.get("vocab_size"), shape[0]), ("hidden_size", width, shape[1])):
            if isinstance(said, int) and said != stored:
                return f"{key}: expected {stored:,}, as {name} of its weights has, got {said:,}; copy the model again"
    depth = config.get("num_hidden_layers", config.get("n_layer"))
    stored_layers = max((int(m[1]) + 1 for name in shapes if (m := _LAYER.search(name))), default=None)
    if isinstance(depth, int) and stored_layers is not None and stored_layers < depth:
        told = f"num_hidden_layers: expected {stored_layers}, as many as its weights have, got {depth}"
        return f"{told}, of which the rest would be drawn at random; copy the model again"
    return None


@cache
def model_types() -> frozenset[str]:
    """Every `model_type` that transformers has a configuration for.

    Raises:
        UserError: transformers is not installed.
    """
    found = {kind for kind, _ in _table("auto_mappings.py", "CONFIG_MAPPING_NAMES")}
    tree = source_tree("transformers", f"{_AUTO}configuration_auto.py")
    # A few more are added there by hand, as keys of mappings.
    texts = (key for node in ast.walk(tree) if isinstance(node, ast.Dict) for key in node.keys)
    return frozenset(
        found | {key.value for key in texts if isinstance(key, ast.Constant) and isinstance(key.value, str)}
    )


@cache
def writing_types() -> frozenset[str]:
    """Those of them that have a class which writes text.

    Raises:
        UserError: transformers is not installed.
    """
    return frozenset(kind for name in WRITING for kind, _ in _models(f"MODEL_FOR_{name}_MAPPING_NAMES"))


@cache
def writing_classes() -> frozenset[str]:
    """The classes of transformers that write text.

    Raises:
        UserError: transformers is not installed.
    """
    return frozenset(
        word for name in WRITING for _, words in _models(f"MODEL_FOR_{name}_MAPPING_NAMES") for word in words
    )


@cache
def known_classes() -> frozenset[str]:
    """All classes of models that transformers chooses from.

    Raises:
        UserError: transformers is not installed.
    """
    tables = {name for name in _names("modeling_auto.py") if name.endswith("MAPPING_NAMES")}
    return frozenset(word for name in tables for _, words in _models(name) for word in words)


def _models(name: str) -> list[tuple[str, tuple[str, ...]]]:
    return _table("modeling_auto.py", name)


def _names(file: str) -> list[str]:
    return [name for name, _ in _assignments(file)]


@cache
def _table(file: str, name: str) -> list[tuple[str, tuple[str, ...]]]:
    """The pairs of a mapping that the source writes as a list of tuples: a kind, and one class or several."""
    value = next((value for named, value in _assignments(file) if named == name), None)
    pairs = []
    for node in ast.walk(value) if value is not None else ():
        if isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[0], ast.Constant):
            try:
                kind, classes = ast.literal_eval(node)
            except ValueError:
                continue
            pairs.append((str(kind), tuple(classes) if isinstance(classes, (tuple, list)) else (str(classes),)))
    return pairs


@cache
def _assignments(file: str) -> list[tuple[str, ast.expr]]:
    tree = source_tree("transformers", _AUTO + file)
    return [
        (node.targets[0].id, node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    ]
