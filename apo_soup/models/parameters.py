"""How many numbers a model has, by its configuration."""

from typing import Any


def built_parameters(config: Any) -> int | None:
    """The parameters of a model, built without them; None where transformers cannot build it."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config)
    except (ValueError, TypeError, AttributeError, ImportError):
        return None
    return int(sum(parameter.numel() for parameter in model.parameters()))
