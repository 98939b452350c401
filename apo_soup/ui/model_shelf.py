"""Loaded models: each is loaded when it is first asked for, and the one that waited longest goes where there is no room
for another.
"""

import gc
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]  # psutil's

from apo_soup.errors import UserError, told_by_library
from apo_soup.models.adapter_base import base_of_adapter
from apo_soup.models.libraries import quiet_libraries
from apo_soup.models.parameters import built_parameters
from apo_soup.runs.model_files import model_files
from apo_soup.runs.sources import FileState, adapter_base_name, file_states, model_folder
from apo_soup.tables import size_text
from apo_soup.ui.chat_models import ChatModel
from apo_soup.weights import weight_files

if TYPE_CHECKING:
    from apo_soup.data.rendering.loaded_model import LoadedModel

# What a model takes beside its weights: keys and values of a conversation, and what a step computes.
_BESIDE_WEIGHTS = 1.25


def free_memory() -> int:
    """Bytes that are free where models run: on the accelerator, or on this machine."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


@dataclass(frozen=True)
class _Loaded:
    """A model, and what its files were when it was loaded."""

    model: "LoadedModel"
    state: list[FileState]


class ModelShelf:
    """The models that are loaded, the one that was asked for last at the end. One thread at a time asks for one."""

    def __init__(self, free: Callable[[], int] = free_memory):
        self._free = free
        self._loaded: dict[ChatModel, _Loaded] = {}

    @property
    def names(self) -> list[str]:
        """The names of what is loaded, the one that waited longest first."""
        return [model.name for model in self._loaded]

    def get(self, asked: ChatModel, told: Callable[[], None] = lambda: None) -> "LoadedModel":
        """A model as its files are now.

        Args:
            told: called before it is loaded, which takes a while.

        Raises:
            UserError: it is not there, is no whole model or has no tokenizer; or there is no room for it.
        """
        folder = model_folder(asked.model, asked.name)
        state = file_states(model_files(folder), asked.name) if folder else []
        known = self._loaded.pop(asked, None)
        if known is None or known.state != state:
            del known
            told()
            self._make_room(asked, _weight_bytes(asked.model, asked))
            known = _Loaded(_load(asked), state)
        self._loaded[asked] = known
        return known.model

    def _make_room(self, asked: ChatModel, size: int) -> None:
        needed = int(size * _BESIDE_WEIGHTS)
        _give_back()
        while self._loaded and self._free() < needed:
            del self._loaded[next(iter(self._loaded))]
            _give_back()
        free = self._free()
        if free < needed:
            raise UserError(
                f"{asked.name}: expected {size_text(needed)} of memory for {asked.model}, got {size_text(free)} free; "
                "end another program, or choose a smaller model"
            )


def _weight_bytes(model: str, asked: ChatModel) -> int:
    """The bytes of a model's weights, of an adapter with its base's; of one on the Hub by its configuration.

    Raises:
        UserError: it is not there, or is no whole model.
    """
    folder = model_folder(model, asked.name)
    if folder is None:
        return _bytes_of_hub(model, asked)
    own = sum(file.bytes for file in file_states(weight_files(folder), asked.name))
    base = None if (folder / "config.json").is_file() else adapter_base_name(folder, asked.name)
    return own + (_weight_bytes(base, asked) if base else 0)


def _bytes_of_hub(model: str, asked: ChatModel) -> int:
    from transformers import AutoConfig

    from apo_soup.models.recipe_tokenizer import CONFIG_ERRORS

    base = base_of_adapter(model, asked.name)  # beside whose weights an adapter's own are few
    if base is not None:
        return _weight_bytes(base, asked)
    with _told_unloadable(asked.name, CONFIG_ERRORS):
        config = AutoConfig.from_pretrained(model, trust_remote_code=asked.trusted)
    return (built_parameters(config) or 0) * getattr(config.dtype, "itemsize", 4)


def _told_unloadable(where: str, kinds: tuple[type[Exception], ...] = (OSError,)) -> AbstractContextManager[None]:
    """Inside, a folder that goes while it is read, or a Hub that gives nothing, is a UserError."""
    way = "make it, or choose another"
    return told_by_library(where, kinds, expected="a model that can be loaded", way=way)


def _give_back() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _load(asked: ChatModel) -> "LoadedModel":
    """Raises UserError where the model or its tokenizer cannot be loaded."""
    quiet_libraries()
    from apo_soup.data.rendering.loaded_model import load_model
    from apo_soup.models.tokenizer import TokenizerKeys

    with _told_unloadable(asked.name):
        keys = TokenizerKeys(asked.template)
        return load_model(asked.model, asked.name, keys, trust_remote_code=asked.trusted)
