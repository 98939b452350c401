"""mergekit's own merge of local folders, for every method and file that `merge/linear.py` does not compute."""

import json
import logging
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from apo_soup.config.mergekit import MergekitKeys, MergekitOptions
from apo_soup.errors import UserError, told_by_library
from apo_soup.models.libraries import NOTES_OF
from apo_soup.private import mergekit_config_changes, mergekit_without_tables
from apo_soup.progress import say
from apo_soup.stored_json import read_json
from merge.complete import copy_tokenizer, written_dtype
from merge.mergekit_names import named_models
from merge.mergekit_schema import parsed_configuration
from merge.mergekit_tables import tensor_names
from merge.tensors import pieces, stored_tensors
from merge.views import view_place, with_views

# What a merge may change in a model's config.json.
CHANGED_KEYS = ("architectures", "num_hidden_layers", "vocab_size")


def run_mergekit(
    config: MergekitKeys,
    options: MergekitOptions,
    first: Path,
    folder: Path,
    where: str,
    changes: dict[str, Any] | None = None,
) -> None:
    """Write what mergekit makes of local folders; configuration and tokenizer are those of the folder `first`.

    Args:
        changes: keys of the configuration that the merge changes, with their values.

    Raises:
        UserError: mergekit refuses the file or the merge, or the result holds values that are not finite.
    """
    from huggingface_hub.errors import StrictDataclassError
    from mergekit.io.tasks import LoaderCache
    from mergekit.merge import run_merge
    from mergekit.options import MergeOptions

    for model in named_models(config):
        classes = read_json(Path(model) / "config.json", where).get("architectures") or []
        if len(classes) != 1:
            raise UserError(
                f"{where}: {model}/config.json: architectures: expected one class of transformers, by which mergekit "
                f"knows the tensors, got {classes or 'none'}; write the model's class there"
            )
    views = folder.parent / "views"
    shutil.rmtree(views, ignore_errors=True)
    LoaderCache.loaders.clear()  # by path, and what lies there may have changed
    names = tensor_names([Path(model) for model in named_models(config)], where)
    if not names.table:
        say(f"note: {where}: mergekit has no table of these models' tensors, and takes those of transformers' class")
    parsed = parsed_configuration(with_views(config, views, where, names.in_memory), options, where)
    named = config.names_tokens or bool(config.chat_template)
    # The card is ours to write; mergekit's asks the Hub about every local folder.
    fixed = {"write_model_card": False, "quiet": True}
    logging.disable(logging.WARNING)  # mergekit tells the root logger how it read the architecture
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module=NOTES_OF)
        refusals = (RuntimeError, ValueError, KeyError, OSError, StrictDataclassError)
        taken, way = "a merge that mergekit can do", "correct what it names"
        with told_by_library(where, refusals, expected=taken, way=way):
            settings = MergeOptions(**{"copy_tokenizer": named, **options.given_values(), **fixed})
        if settings.num_threads is not None:  # mergekit's own program sets it, and not its function
            torch.set_num_threads(settings.num_threads)
        with (
            mergekit_config_changes(changes or {}),
            nullcontext() if names.table else mergekit_without_tables(),
            told_by_library(where, refusals, expected=taken, way=way),
            _named_as_given(config, views),
        ):
            run_merge(parsed, str(folder), settings)
    shutil.rmtree(views)
    _check_result(folder, where)
    if not named:
        copy_tokenizer(first, folder)
    elif not (folder / "tokenizer_config.json").is_file():
        raise UserError(f"{where}.tokenizer: expected a tokenizer from mergekit, got none; its own words are above")
    # mergekit takes the configuration of any of the models; what it changed in it stays.
    made, whole = read_json(folder / "config.json", where), read_json(first / "config.json", where)
    for key in ("torch_dtype", "transformers_weights"):
        whole.pop(key, None)
    whole |= {key: made[key] for key in CHANGED_KEYS if key in made} | (changes or {})
    whole["dtype"] = written_dtype(folder)  # mergekit keeps the types of its models, which may be several
    inner = made.get("text_config") or {}
    if "vocab_size" in inner and isinstance(whole.get("text_config"), dict):
        whole["text_config"] = {**whole["text_config"], "vocab_size": inner["vocab_size"]}
    (folder / "config.json").write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _named_as_given(config: MergekitKeys, views: Path) -> Iterator[None]:
    """Let mergekit's complaints name the folders of the models, not the links to them."""
    try:
        yield
    except (RuntimeError, ValueError, KeyError, OSError) as error:
        words = str(error)
        for model in named_models(config):
            words = words.replace(str(view_place(Path(model), views)), model)
        raise RuntimeError(words) from error


def _check_result(folder: Path, where: str) -> None:
    """Refuse merged weights that hold NaN or infinity, naming the tensor."""
    for name, stored in stored_tensors(folder, where).items():
        if stored.dtype.is_floating_point and not all(stored.read(*p).isfinite().all() for p in pieces(stored.count)):
            raise UserError(
                f"{where}: tensor {name} of the merge: expected finite values, got NaN or infinity; change the weights "
                "or write float32"
            )
