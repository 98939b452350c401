"""Part 1: what each attention computes beside SDPA in float32, and the margin of the first step."""

import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from apo.losses import PAIR_LOSSES, LogRatios, LossOptions
from apo.packed_pairs import PairIds, pack_pairs
from apo.pair_attention import PAIRS, register_pair_attention
from apo.scoring import add_scoring, answer_logprobs
from bench.gpu.trainers import chat_trainer, common, pair_trainer
from bench.gpu.work import Size, chats_of, device_here, pairs_of, random_model

PAIRS_COMPARED, CHAT_ROWS = 6, 2


def parity(size: Size) -> dict[str, Any]:
    """Loss and gradients by stage, attention and precision, and the loss and margin of a first step."""
    found: dict[str, Any] = {"apo": apo_parity(size), "sft": sft_parity(size), "first_step": {}}
    for autocast in (False, True):
        found["first_step"]["bf16" if autocast else "float32"] = first_step(size, autocast)
    return found


def attentions(ways: tuple[str, ...]) -> list[str]:
    """What can train here: FlexAttention has no gradients on a CPU, FlashAttention is a package of its own."""
    gpu = device_here().type == "cuda"
    more = ["flex_attention"] if gpu else []
    flash = ["flash_attention_2"] if gpu and importlib.util.find_spec("flash_attn") else []
    return [*ways, *more, *(flash if PAIRS not in ways else [])]


def apo_parity(size: Size) -> list[dict[str, Any]]:
    """The loss of a row of pairs, against a reference that is a little off, and its gradients."""
    register_pair_attention()
    rows = pairs_of(PAIRS_COMPARED, size.compared, size.small["vocab_size"])
    row = pack_pairs([PairIds(*pair.values()) for pair in rows]).to(device_here())
    off = torch.linspace(-4, 4, 2 * PAIRS_COMPARED, device=device_here()).view(-1, 2)
    loss_of, options = PAIR_LOSSES["apo_zero"], LossOptions(beta=0.05)

    def computed(attention: str, autocast: bool, reference: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        model: Any = random_model(size.small, attention, torch.float32)
        add_scoring(model)
        with torch.autocast(device_here().type, torch.bfloat16, enabled=autocast):
            logps = answer_logprobs(model.train(), row, attention)
        ratios = logps - (logps.detach() if reference is None else reference) - off
        loss = loss_of(LogRatios(*ratios.unbind(1), *torch.ones_like(ratios).unbind(1)), options).mean()
        loss.backward()
        return loss.detach(), gradients(model), logps.detach()

    loss, gradient, reference = computed("sdpa", False, None)
    return [
        compared(way, autocast, computed(way, autocast, reference)[:2], (loss, gradient))
        for way in attentions(("sdpa", PAIRS))
        for autocast in (False, True)
    ]


def sft_parity(size: Size) -> list[dict[str, Any]]:
    """The loss of packed conversations and its gradients, by this project's trainer; the measure is stock TRL's of
    each conversation alone.
    """
    chats = chats_of(CHAT_ROWS, size.compared, size.small["vocab_size"])

    def computed(name: str, attention: str, autocast: bool) -> tuple[Tensor, Tensor]:
        with tempfile.TemporaryDirectory() as folder:
            arguments = common(Path(folder), size.compared, len(chats), 1, autocast, False)  # all of them as one batch
            trainer: Any = chat_trainer(name, chats, size.small, torch.float32, arguments, attention)
            batch = next(iter(trainer.get_train_dataloader()))
            inputs = {name: value.to(device_here()) for name, value in batch.items() if name != "rows"}
            trainer.model.train()
            items = (inputs["labels"] != -100).sum()
            with torch.autocast(device_here().type, torch.bfloat16, enabled=autocast):
                loss = trainer.compute_loss(trainer.model, inputs, num_items_in_batch=items)
            loss.backward()
            return loss.detach(), gradients(trainer.model)

    measure = computed("padded", "sdpa", False)
    return [
        compared(way, autocast, computed("ours", way, autocast), measure)
        for way in attentions(("sdpa",))
        for autocast in (False, True)
        if autocast or way != "flash_attention_2"  # which has no float32
    ]


def first_step(size: Size, autocast: bool) -> dict[str, float]:
    """Loss and margin of the first step of packed preference training, which are 1 and 0."""
    rows = pairs_of(PAIRS_COMPARED, size.compared, size.small["vocab_size"])
    with tempfile.TemporaryDirectory() as folder:
        arguments = common(Path(folder), size.compared, PAIRS_COMPARED, 1, autocast, False)
        trainer = pair_trainer("ours", rows, size.small, torch.float32, arguments)
        trainer.train()
        first = trainer.state.log_history[0]
    return {"loss": first["loss"], "margin": first["rewards/margins"]}


def gradients(model: torch.nn.Module) -> Tensor:
    """All gradients of a model in one row `[P]`."""
    return torch.cat([weight.grad.flatten().float() for weight in model.parameters() if weight.grad is not None])


def compared(way: str, autocast: bool, found: tuple[Tensor, Tensor], measure: tuple[Tensor, Tensor]) -> dict[str, Any]:
    """How far a loss `[]` and gradients `[P]` are from the measure's, as shares of it."""
    (loss, gradient), (loss_0, gradient_0) = found, measure
    return {
        "attention": way,
        "precision": "bf16" if autocast else "float32",
        "loss": loss.item(),
        "loss_off": abs(loss.item() / loss_0.item() - 1),
        "gradients_off": ((gradient - gradient_0).norm() / gradient_0.norm()).item(),
    }
