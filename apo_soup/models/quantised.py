"""Bases whose weights bitsandbytes has quantised, for adapters on them (QLoRA, Dettmers et al. 2023, 2305.14314)."""

import copy
from typing import Any, cast

import torch
from transformers import PreTrainedModel

# The class names of bitsandbytes' parameters: the package need not be installed to look for them.
QUANTISED_PARAMETERS = ("Params4bit", "Int8Params")


def quantisation(model: PreTrainedModel) -> str | None:
    """How a model's weights are quantised, such as `4-bit nf4`; None where they are not."""
    settings: Any = getattr(model.config, "quantization_config", None)
    read = settings.get if isinstance(settings, dict) else lambda name, default=None: getattr(settings, name, default)
    if settings is None:
        return None
    if read("load_in_4bit"):
        return f"4-bit {read('bnb_4bit_quant_type')}" + (", nested" if read("bnb_4bit_use_double_quant") else "")
    return "8-bit" if read("load_in_8bit") else str(read("quant_method"))


def keep_one_arithmetic(model: PreTrainedModel) -> None:
    """Have 4-bit layers on a CPU compute in evaluation what they compute in training.

    On a processor with bfloat16 products bitsandbytes packs the weights at the first evaluation, in place: what a
    reference or an evaluation between the steps computes, and what training goes on with, is then of less precision.
    """
    layers: list[Any] = [layer for layer in model.modules() if hasattr(layer, "support_avx512bf16_for_cpu")]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False


def dequantised(model: PreTrainedModel) -> PreTrainedModel:
    """The model of plain numbers that a stored model of few bits stands for, as one that was never quantised."""
    config = copy.deepcopy(model.config)
    del config.quantization_config
    plain: Any = type(model)(config)
    plain.to(model.dtype)
    plain.load_state_dict(cast(PreTrainedModel, model.dequantize()).state_dict())
    plain.generation_config = model.generation_config
    return cast(PreTrainedModel, plain)


@torch.no_grad()
def with_dequantised(model: PreTrainedModel, quantised: PreTrainedModel) -> str | None:
    """Give a model the values that another one's quantised weights stand for, in place; the other weights stay.

    Args:
        model: the same model, not quantised.
        quantised: with adapters in it or without.

    Returns:
        What they are, in words; None where nothing is quantised.
    """
    from peft.utils.integrations import dequantize_module_weight

    plain = dict(model.named_modules())
    count = 0
    for name, module in quantised.named_modules():
        # An adapter's layer shows the weight of the layer below it as its own.
        if type(dict(module.named_parameters(recurse=False)).get("weight")).__name__ in QUANTISED_PARAMETERS:
            layer = plain[name.removesuffix(".base_layer")]
            values: torch.Tensor = dequantize_module_weight(module)
            layer.weight.copy_(values.to(layer.weight))
            count += 1
    return f"the values of its {quantisation(quantised)} base ({count} layers)" if count else None
