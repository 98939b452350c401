"""What tests of preference training share: small models, pairs, runs in this process, and comparisons."""

import json
import random

import torch
from helpers import TINY_SHAPE, preference


def tiny_model_of(kind, tokens=300):
    """A random model of one architecture, small enough for a test."""
    from transformers import (
        LlamaConfig,
        LlamaForCausalLM,
        Qwen3Config,
        Qwen3ForCausalLM,
        SmolLM3Config,
        SmolLM3ForCausalLM,
    )

    torch.manual_seed(0)
    config_class, model_class = {
        "smollm3": (SmolLM3Config, SmolLM3ForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
    }[kind]
    config = config_class(
        **TINY_SHAPE,
        vocab_size=tokens,
        head_dim=8,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=1,
        initializer_range=0.2,
    )
    return model_class(config).eval()


WORDS = ["the", "cat", "sat", "on", "a", "mat", "and", "then", "it", "ran", "off", "to", "see", "you"]


def varied_pairs(seed: int, count: int) -> list[dict]:
    """Pairs of very different lengths."""
    generator = random.Random(seed)

    def text(most):
        return " ".join(generator.choices(WORDS, k=generator.randrange(1, most)))

    return [preference(text(12), f"{text(15)} {n}", f"{text(20)} no {n}") for n in range(count)]


def train_members(path, *words):
    """Train all members in this process, which saves the seconds that imports take."""
    from apo.train import train_member
    from apo_soup.config.load import load
    from apo_soup.config.members import member_recipes
    from apo_soup.runs.members import kept_checkpoints
    from apo_soup.training.entry import training_stage

    for member in member_recipes(load(path, "apo", list(words))):
        stage = training_stage(member)
        train_member(member, stage, kept_checkpoints(member, stage))


def log_of(folder, member=1):
    """The log of a member's training, an entry a step and an evaluation."""
    return json.loads((folder / str(member) / "trainer_state.json").read_text())["log_history"]


def logged(folder, key):
    """One figure of the first member's log, in order."""
    return [entry[key] for entry in log_of(folder) if key in entry]


def facts(folder, member=1):
    """The metrics of a member's manifest."""
    return json.loads((folder / str(member) / "manifest.json").read_text())["metrics"]


PAIRS = [preference(f"What is {a} + {b}?", f"{a + b} good", f"{a + b} bad") for a in range(6) for b in range(6)]


SETTINGS = {
    "plain": {},
    "apo_down": {"loss_type": "apo_down"},
    "sigmoid": {"loss_type": "sigmoid"},
    "accumulation": {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 4, "num_train_epochs": 10},
    "checkpointing": {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
    "lora": {"use_peft": True, "lora_r": 4, "lora_target_modules": ["q_proj", "v_proj"], "learning_rate": 1e-2},
}


# Plain gradient descent at this rate: weights move by -rate times the gradient, far beyond their own rounding.
DESCENT = {"optim": "sgd", "lr_scheduler_type": "constant", "warmup_steps": 0, "max_grad_norm": 0.0,
           "learning_rate": 1e3, "max_steps": 1}  # fmt: skip


# An adapter's A has no gradient in the first step. What moves is the weights it is merged into.
LORA_DESCENT = SETTINGS["lora"] | {"learning_rate": 1.0, "max_steps": 2, "lora_target_modules": "all-linear"}


def assert_same_moves(ours, stock, before, moving=""):
    """Every tensor named so has moved as in the stock trainer, to 1e-4 of the length of its way; the others rest."""
    assert ours.keys() == stock.keys() == before.keys()
    for name, start in before.items():
        way = stock[name].double() - start.double()
        assert (way.norm() > 0) == (moving in name), name
        assert (ours[name].double() - start.double() - way).norm() <= 1e-4 * way.norm(), name
