"""The folder that llama.cpp's converter reads: the model's weights, and its settings as llama.cpp needs them.

Three things differ from the model's own files. The chat template is the one of `served_template.py`. Tags that the
model writes for others to read, such as `<think>`, are no special tokens: llama.cpp leaves special ones out of what it
prints, and nobody could tell the reasoning apart. And no beginning of text is added where the chat template writes
none.
"""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError
from apo_soup.stored_json import read_json
from apo_soup.weights import INDEX_FILE, weight_files

# Tags of answers and of tools' results.
ANSWER_TAGS = re.compile(r"</?(?:think|tool_call|tool_response|code)>")
# The layer that llama.cpp gives no positions to, every so many; it stands in llama.cpp's source.
_SMOLLM3_INTERVAL = 4
_TEMPLATE = "chat_template.jinja"
_LISTS = ("extra_special_tokens", "additional_special_tokens")


def require_convertible(folder: Path) -> dict[str, Any]:
    """The configuration of a model that the converter can take; what it would write wrongly, without a word, is
    refused.

    Raises:
        UserError: it is an adapter, its weights are quantised, or its layers are of a kind that llama.cpp has not.
    """
    if not (folder / "config.json").is_file():
        raise UserError(
            f"{folder}: expected a whole model for --gguf, got an adapter; merge it into its base first, or name the "
            "stage's own folder"
        )
    config = read_json(folder / "config.json", "MODEL", "copy the model again")
    if config.get("quantization_config"):
        kind = config["quantization_config"].get("quant_method", "quantised")
        raise UserError(
            f"{folder / 'config.json'}: quantization_config: expected weights of 16 or 32 bits, got {kind}; name a "
            "model that is not quantised"
        )
    if config.get("model_type") == "smollm3":
        layers = config.get("no_rope_layers") or []
        usual = [int((n + 1) % _SMOLLM3_INTERVAL != 0) for n in range(config["num_hidden_layers"])]
        if layers and layers != usual:
            raise UserError(
                f"{folder / 'config.json'}: no_rope_layers: expected {usual}, which llama.cpp has for every SmolLM3, "
                f"got {layers}; serve this model with transformers or vLLM"
            )
    return config


def write_source(model: Path, folder: Path, template: str, adds_begin: bool) -> None:
    """Write the folder that the converter reads; weights are linked, not copied.

    Args:
        template: the chat template that the file is to carry.
        adds_begin: whether a beginning of text belongs before what the template writes.

    Raises:
        UserError: a file of settings cannot be read.
    """
    folder.mkdir()
    for file in (*weight_files(model), model / INDEX_FILE):
        if file.is_file():
            _link(file.resolve(), folder / file.name)
    for name in ("config.json", "generation_config.json", "special_tokens_map.json"):
        if (model / name).is_file():
            shutil.copyfile(model / name, folder / name)
    tokenizer = read_json(model / "tokenizer.json", "MODEL", "copy the model again")
    for token in tokenizer.get("added_tokens", []):
        token["special"] = token["special"] and not ANSWER_TAGS.fullmatch(token["content"])
    _write(folder / "tokenizer.json", tokenizer)
    settings = read_json(model / "tokenizer_config.json", "MODEL", "copy the model again")
    for key in _LISTS:
        if isinstance(settings.get(key), list):
            settings[key] = [one for one in settings[key] if not ANSWER_TAGS.fullmatch(_content(one))]
    for token in (settings.get("added_tokens_decoder") or {}).values():
        token["special"] = token["special"] and not ANSWER_TAGS.fullmatch(token["content"])
    settings.pop("chat_template", None)
    _write(folder / "tokenizer_config.json", settings | ({} if adds_begin else {"add_bos_token": False}))
    (folder / _TEMPLATE).write_text(template, encoding="utf-8")


def _content(token: Any) -> str:
    return str(token["content"] if isinstance(token, dict) else token)


def _write(file: Path, value: Any) -> None:
    file.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _link(file: Path, link: Path) -> None:
    """Link a file, or copy it where the disk has no links."""
    try:
        os.symlink(file, link)
    except OSError:
        shutil.copyfile(file, link)
