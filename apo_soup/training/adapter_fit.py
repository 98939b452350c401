"""Whether a model has the layers that an adapter is to change, told before rows are read and weights are loaded.

peft refuses names of which none is in the model, and passes over a single one that is not: an adapter for `q_proj` and
`v_prj` would be trained on half of what was meant.
"""

import re
import warnings

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from apo_soup.config.nearest import nearest
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, told_by_library
from apo_soup.models.earlier_adapter import earlier_adapter
from apo_soup.models.recipe_tokenizer import CONFIG_ERRORS

SHOWN_LAYERS = 8


def check_adapter_fits(adapter: LoraConfig | None, recipe: TrainingFile) -> None:
    """Put a new adapter on a model without weights, and look for every layer that the recipe names. An earlier adapter,
    which goes on, has its layers.

    Args:
        adapter: peft's configuration; None where no adapter is trained.

    Raises:
        UserError: the model has no such layer, or peft cannot adapt it.
    """
    if adapter is None or earlier_adapter(recipe):
        return
    model = recipe.model_name_or_path
    base = model_without_weights(recipe, model)
    stored = getattr(base.config, "quantization_config", None)
    method = stored.get("quant_method") if isinstance(stored, dict) else getattr(stored, "quant_method", None)
    if stored and method != "bitsandbytes":
        raise UserError(
            f"{recipe.place('model_name_or_path')}: expected a base of plain numbers, or of bitsandbytes' bits, got "
            f"{model} in {method}, into which no adapter can be merged; name the model that it was made from, with "
            "load_in_4bit: true"
        )
    modules = [name for name, _ in base.named_modules()]
    parameters = [name for name, _ in base.named_parameters(remove_duplicate=False)]
    # A pattern, or the word for all linear layers, names none.
    targets = recipe.lora_target_modules if isinstance(adapter.target_modules, (list, set)) else None
    for key, named, known in (
        ("lora_target_modules", targets, modules),
        ("lora_modules_to_save", recipe.lora_modules_to_save, modules),
        ("lora_target_parameters", recipe.lora_target_parameters, parameters),
    ):
        for number, name in enumerate(named or []):
            if not any(f".{place}".endswith(f".{name}") for place in known):
                short = {place.rpartition(".")[2] for place in known} - {""}
                short = {part for part in short if not re.fullmatch(r"\d+", part)}
                way = nearest(name, sorted(short)) or f"name layers such as {', '.join(sorted(short)[:SHOWN_LAYERS])}"
                where = recipe.place(f"{key}.{number}")
                raise UserError(f"{where}: expected a layer of {model}, got {name}, which it has not; {way}")
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
