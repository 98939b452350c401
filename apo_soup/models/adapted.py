"""An adapter on its base, such that merging it gives the model that was trained."""

from typing import Any, cast

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel


def untied(model: PeftModel) -> PeftModel:
    """A base with its adapter, ready to be merged. Where LoRA adapts one of two tied layers, or both, they are untied:
    merged into the weight that both share, a change would be in both, or in it twice.
    """
    base = cast(PreTrainedModel, model.get_base_model())
    embeddings, head = base.get_input_embeddings(), base.get_output_embeddings()
    adapted = isinstance(embeddings, BaseTunerLayer) or isinstance(head, BaseTunerLayer)
    if adapted and head is not None and _plain(head).weight is _plain(embeddings).weight:
        untie(base, _plain(head))
    return model


def _plain(layer: Any) -> Any:
    """A layer below its adapter."""
    return layer.get_base_layer() if isinstance(layer, BaseTunerLayer) else layer


def untie(model: PreTrainedModel, head: Any) -> None:
    """Give a model a head of its own, with the values of the embeddings that it was tied to; `head` is its layer."""
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=head.weight.requires_grad)
    model.config.tie_word_embeddings = False
    model.config.get_text_config().tie_word_embeddings = False
    model.all_tied_weights_keys = {}
