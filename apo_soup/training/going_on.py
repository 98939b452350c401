"""An earlier adapter on its base, to be trained further; in preference training a copy of it is the reference."""

from typing import Any

import torch
from peft import PeftModel
from transformers import TrainingArguments
from trl.trainer.utils import create_model_from_path

from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, told_by_library
from apo_soup.models.earlier_adapter import base_model, earlier_adapter
from apo_soup.progress import say
from apo_soup.training.arguments import loading_options

# TRL's name for the copy of an adapter as it was before preference training.
REFERENCE_ADAPTER = "ref"


def with_earlier_adapter(recipe: TrainingFile, arguments: TrainingArguments, adapting: dict[str, Any]) -> Any:
    """The model that a trainer is given in place of a name, where the recipe goes on with an adapter; else None.

    Args:
        adapting: what `adapters` gave; emptied of what the trainer may not be given beside a loaded model.

    Raises:
        UserError: transformers or peft cannot load the base or the adapter.
    """
    adapter = earlier_adapter(recipe)
    if adapter is None:
        return None
    base, where = base_model(recipe), recipe.place("model_name_or_path")
    options = {**loading_options(arguments), "trust_remote_code": recipe.trust_remote_code}
    if adapting["quantization_config"] is not None:
        options["quantization_config"] = adapting["quantization_config"]
    if arguments.world_size > 1:
        options["device_map"] = None
    taken = f"an adapter that peft loads, on its base {base}"
    with told_by_library(where, (ValueError, OSError, RuntimeError), expected=taken, way="train or fetch it again"):
        loaded = create_model_from_path(base, **options)
        model = PeftModel.from_pretrained(loaded, str(adapter), is_trainable=True)
    if getattr(model.peft_config["default"], "is_prompt_learning", False):
        raise UserError(
            f"{where}: expected an adapter of weights, such as LORA, got {adapter}, which changes what a model reads "
            "and cannot be merged; name another one"
        )
    adapting.update(peft_config=None, quantization_config=None)
    say(f"adapter: {adapter} is trained further, on {base}")
    return model


@torch.no_grad()
def complete_reference(model: Any) -> None:
    """Make TRL's copy of an adapter whole, in place: it passes over tensors of embeddings and of rows of tokens, whose
    names end with the adapter's. The copy is not trained.
    """
    if not isinstance(model, PeftModel) or REFERENCE_ADAPTER not in model.peft_config:
        return
    tensors = dict(model.named_parameters())
    for name, tensor in tensors.items():
        if f".{REFERENCE_ADAPTER}." in f"{name}.":
            source = f"{name}.".replace(f".{REFERENCE_ADAPTER}.", ".default.").removesuffix(".")
            tensor.copy_(tensors[source])
            tensor.requires_grad_(False)
