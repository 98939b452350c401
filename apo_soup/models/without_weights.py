"""A model that is built without weights, and the layers that an adapter is to change in it."""

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from apo_soup.config.training import TrainingFile
from apo_soup.errors import told_by_library
from apo_soup.models.adapted_layers import require_layers, require_trainable_bits
from apo_soup.models.recipe_tokenizer import CONFIG_ERRORS


def require_named_layers(recipe: TrainingFile, model: str) -> PreTrainedModel:
    """Look for every layer that the recipe's adapter names in a model without weights, which is returned.

    Raises:
        UserError: the model has no such layer, its weights are of few bits, or its configuration cannot be read.
    """
    base = model_without_weights(recipe, model)
    require_trainable_bits(recipe, model, getattr(base.config, "quantization_config", None))
    parameters = [name for name, _ in base.named_parameters(remove_duplicate=False)]
    require_layers(recipe, model, [name for name, _ in base.named_modules()], parameters)
    return base


def model_without_weights(recipe: TrainingFile, model: str) -> PreTrainedModel:
    """A model on the meta device: its layers and their names, and no numbers.

    Raises:
        UserError: transformers cannot read its configuration.
    """
    code = recipe.trust_remote_code
    revision = recipe.model_revision if recipe.gives("model_revision") and model == recipe.model_name_or_path else None
    taken = "a model that transformers loads"
    place = recipe.place("model_name_or_path")
    with told_by_library(place, CONFIG_ERRORS, expected=taken, way="name another one"):
        config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=code)
    with torch.device("meta"):
        empty: PreTrainedModel = AutoModelForCausalLM.from_config(config, trust_remote_code=code)
    empty.tie_weights()
    return empty
