"""Loaded models: each is loaded when it is first asked for, and the one that waited longest goes where there is no room
for another.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # psutil's

from apo_soup.errors import UserError, first_line
from apo_soup.models.libraries import quiet_libraries
from apo_soup.runs.model_files import model_files
from apo_soup.runs.sources import model_folder
from apo_soup.tables import size_text
from apo_soup.ui.chat_models import ChatModel
from apo_soup.weights import weight_files

# What a model takes beside its weights: keys and values of a conversation, and what a step computes.
_BESIDE_WEIGHTS = 1.25


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode with its tokenizer and renderer, as its files were when it was loaded."""

    model: Any
    tokenizer: Any
    renderer: Any
    state: tuple[tuple[str, int, int], ...]


def free_memory() -> int:
    """Bytes that are free where models run: on the accelerator, or on this machine."""
    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


class ModelShelf:
    """The models that are loaded, the one that was asked for last at the end. One thread at a time asks for one."""

    def __init__(self, free: Callable[[], int] = free_memory):
        self._free = free
        self._loaded: dict[ChatModel, LoadedModel] = {}

    @property
    def names(self) -> list[str]:
        """The names of what is loaded, the one that waited longest first."""
        return [model.name for model in self._loaded]

    def get(self, asked: ChatModel, told: Callable[[], None] = lambda: None) -> LoadedModel:
        """A model as its files are now.

        Args:
            told: called before it is loaded, which takes a while.

        Raises:
            UserError: it is not there, is no whole model or has no tokenizer; or there is no room for it.
        """
        folder = model_folder(asked.model, asked.name)
        state = _state_of(folder)
        known = self._loaded.pop(asked, None)
        if known is None or known.state != state:
            del known
            told()
            self._make_room(asked, folder)
            known = _load(asked, state)
        self._loaded[asked] = known
        return known

    def _make_room(self, asked: ChatModel, folder: Path | None) -> None:
        size = sum(file.stat().st_size for file in weight_files(folder)) if folder else 0
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


def _state_of(folder: Path | None) -> tuple[tuple[str, int, int], ...]:
    files = model_files(folder) if folder else []
    return tuple((file.name, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()])


def _give_back() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _load(asked: ChatModel, state: tuple[tuple[str, int, int], ...]) -> LoadedModel:
    """Raises UserError where the model or its tokenizer cannot be loaded."""
    quiet_libraries()
    import torch

    from apo_soup.data.rendering.trained_spans import Renderer
    from apo_soup.models.loading import load_causal_model
    from apo_soup.models.tokenizer import TokenizerKeys, load_tokenizer

    keys = TokenizerKeys(asked.template)
    tokenizer = load_tokenizer(asked.model, asked.name, keys, trust_remote_code=asked.trusted)
    renderer = Renderer(tokenizer)
    try:
        model = load_causal_model(asked.model, asked.name, trust_remote_code=asked.trusted).eval()
    except OSError as error:  # a folder that went while it was read, or a Hub that gives nothing
        raise UserError(
            f"{asked.name}: expected a model that can be loaded, got {first_line(error)}; make it, or choose another"
        ) from error
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    return LoadedModel(model, tokenizer, renderer, state)
