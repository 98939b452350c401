"""Whether a model has the layers that an adapter is to change, told before rows are read and weights are loaded.

peft refuses names of which none is in the model, and passes over a single one that is not: an adapter for `q_proj` and
`v_prj` would be trained on half of what was meant.
"""

import warnings

from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer

from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, told_by_library
from apo_soup.models.adapted_layers import require_trainable_bits
from apo_soup.models.earlier_adapter import earlier_adapter
from apo_soup.models.window import config_of
from apo_soup.models.without_weights import require_named_layers


def check_adapter_fits(adapter: LoraConfig | None, recipe: TrainingFile) -> None:
    """Put a new adapter on a model without weights, and look for every layer that the recipe names. An earlier adapter,
    which goes on, has its layers.

    Args:
        adapter: peft's configuration; None where no adapter is trained.

    Raises:
        UserError: the model has no such layer, peft cannot adapt it, or its weights are of few bits.
    """
    if earlier_adapter(recipe):
        return
    model = recipe.model_name_or_path
    if adapter is None:
        require_trainable_bits(recipe, model, getattr(config_of(recipe, model), "quantization_config", None))
        return
    base = require_named_layers(recipe, model)
    key = next((k for k in ("lora_target_modules", "lora_target_parameters") if recipe.gives(k)), "use_peft")
    taken = f"layers of {model} that peft can adapt"
    with (
        warnings.catch_warnings(),
        told_by_library(recipe.place(key), (ValueError, TypeError), expected=taken, way="name others"),
    ):
        warnings.simplefilter("ignore")
        adapted = get_peft_model(base, adapter, low_cpu_mem_usage=True)
    if isinstance(adapted.get_output_embeddings(), BaseTunerLayer):
        raise UserError(
            f"{recipe.place(key)}: expected layers below the head, got {recipe.lora_target_modules}: the loss reads "
            "the head's own weight, so that an adapter on it would never be trained; leave the head out, or train it "
            "whole with lora_modules_to_save"
        )
