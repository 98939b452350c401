"""A model that is asked in the midst of its training, and left as it was: nothing that training reads is another."""

import functools
import random
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel
from transformers.utils.generic import is_flash_attention_requested

from apo_soup.models.positions import rope_by_length
from apo_soup.private import attention_implementation
from apo_soup.training.trainer import random_state, set_random_state

# What a model with positions by length keeps of the longest text that it has read.
_LONGEST = ("inv_freq", "max_seq_len_cached")


@contextmanager
def asked_aside(trained: PreTrainedModel, computing: Callable[[], Any]) -> Iterator[PreTrainedModel]:
    """Inside, a model as an evaluation loads it, on the weights that are trained: in evaluation mode, by its class's
    own forward, with SDPA in place of an attention that training alone has. Behind it modes, forward, attention,
    positions and all random numbers are as they were.

    Args:
        trained: the model, or what PEFT made of it, an adapter's weights beside its own.
        computing: gives the context that training computes in, such as autocast's.
    """
    given: Any = trained
    model: Any = given.get_base_model() if isinstance(given, PeftModel) else given
    modes = {module: module.training for module in trained.modules()}
    forward, attention = vars(model).pop("forward", None), attention_implementation(model.config)
    other = attention not in ("sdpa", "eager") and not is_flash_attention_requested(model.config.get_text_config())
    longest = _longest_texts(model)
    drawn = random.getstate(), np.random.get_state(), random_state()
    try:
        model.forward = types.MethodType(_computed_in(type(model).forward, computing), model)
        trained.eval()
        if other:
            model.set_attn_implementation("sdpa")
        yield model
    finally:
        vars(model).pop("forward", None)
        if forward is not None:
            model.forward = forward
        for module, training in modes.items():
            module.training = training
        for module, name, value in longest:
            setattr(module, name, value)
        random.setstate(drawn[0])
        np.random.set_state(drawn[1])
        set_random_state(drawn[2])
        if other:
            model.set_attn_implementation(attention)


def _computed_in(forward: Callable[..., Any], computing: Callable[[], Any]) -> Callable[..., Any]:
    """A forward inside a context, which is one of a thread; its parameters can be read as before."""

    @functools.wraps(forward)
    def computed(self: Any, *args: Any, **kwargs: Any) -> Any:
        with computing():
            return forward(self, *args, **kwargs)

    return computed


def _longest_texts(model: PreTrainedModel) -> list[tuple[torch.nn.Module, str, Any]]:
    """Where a model keeps what its longest text made of its positions, by module and name; nothing for most models."""
    if not rope_by_length(model.config.get_text_config()):
        return []
    return [
        (module, name, getattr(module, name))
        for module in model.modules()
        for name in (*vars(module), *dict(module.named_buffers(recurse=False)))
        if name.endswith(_LONGEST)
    ]
