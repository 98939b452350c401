"""Small things that tests of trained adapters need."""

import torch
from helpers import chat
from transformers import AutoModelForCausalLM

IDS = torch.arange(3, 60)[None]
ROWS = [chat(f"What is {a} + {b}?", f"{a + b}", False) for a in range(6) for b in range(4)]


def logits_of(folder, adapter=None):
    """What a folder's model computes, with an adapter on it."""
    from peft import PeftModel

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(model, adapter) if adapter else model
    with torch.no_grad():
        return model.eval()(IDS, use_cache=False).logits


def weights_of(folder):
    """A model's weights by name, its head among them where it is tied."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).state_dict()
