"""Which way the loss of packed rows is computed: what it comes from alone (`sft/trained_places.py`), or whole by TRL.

Both compute the same. Options and models that the first does not know are found here and run the second, with a line
that says so. Models are judged by their configuration first and then by a probe: a small batch of packed documents and
each of them alone. A model whose packed documents see each other whichever way is refused.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list
from peft import PeftModel
from transformers import PreTrainedModel
from transformers.utils import is_triton_available
from transformers.utils.generic import is_flash_attention_requested
from trl import SFTConfig, SFTTrainer

from apo_soup.data.packing import position_ids
from apo_soup.data.trained_ranges import IGNORED
from apo_soup.errors import first_line
from apo_soup.models.document_attention import DOCUMENTS, attend_by_documents
from apo_soup.models.refusals import FORWARD_ERRORS
from apo_soup.private import attention_implementation, supports_attention
from sft.documents_alone import documents_reason
from sft.trained_places import add_trained_places

# Options that TRL carries out by itself: name -> whether a value asks for it.
TRL_OPTIONS: dict[str, Callable[[Any], bool]] = {
    "loss_type": lambda v: v != "nll",
    "label_smoothing_factor": bool,
    "use_liger_kernel": bool,
    "neftune_noise_alpha": lambda v: v is not None,  # its noise is scaled by the length of a row
    "torch_compile": bool,
    "parallelism_config": lambda v: v is not None,
}
# Devices on which TRL's own kernel for the LM head runs, which passes trained places alone too.
KERNEL_DEVICES = ("cuda", "xpu")
# Documents of the probe's rows, and the first trained token of each. Those that are trained are of one length, so that
# a batch of them has no padding; two stand behind others.
PACKED_PROBE = (((7, 3), (1, 1), (7, 2)), ((8, 8), (7, 1)))
# The same where a row holds one document and padding.
PADDED_PROBE = (((7, 3), (2, 2)), ((7, 2), (2, 2)), ((7, 1), (2, 2)))
PROBED = 7
# Without FlashAttention, what packed documents of a model are kept apart by on a GPU that cannot be attended to alone.
FLEX = "flex_attention"
# What other neighbours change in a log-probability at most, in the mean of the probe's, in less than float32.
LEAK = 4e-3


class DocumentsMixed(Exception):
    """A model whose packed documents see each other; the message is what it is, behind "got"."""


def use_trained_places(trainer: SFTTrainer, packed: bool = True) -> list[str]:
    """Let a trainer that is not wrapped yet compute what the loss comes from alone, as far as options and model allow.
    All ranks call it and go one way.

    Args:
        trainer: with its model as transformers or PEFT made it.
        packed: a row may hold several documents.

    Returns:
        Why something is computed as TRL does, a sentence's end for each; nothing where nothing is.

    Raises:
        DocumentsMixed: packed documents would see each other.
    """
    wrapped: Any = trainer.model
    model: Any = wrapped.get_base_model() if isinstance(wrapped, PeftModel) else wrapped
    arguments = cast(SFTConfig, trainer.args)
    exact = is_exact(model, arguments)
    stock, attention = model.forward, attention_implementation(model.config)
    # Its kernels read the documents' boundaries, and run on a GPU alone.
    flash = is_flash_attention_requested(model.config.get_text_config())
    reason, told, why = trl_reason(arguments, model), [], None
    parallel = trainer.accelerator.parallelism_config  # of accelerate's own file too, which the arguments do not have
    if parallel is not None:
        reason = reason or "parallelism_config"
        if packed and parallel.cp_enabled:
            raise DocumentsMixed(f"{type(model).__name__} under context parallelism, which attends to rows whole")
    if reason is None and not flash:
        tiles = runs_in_tiles(trainer)
        if attention == "sdpa":
            why = set_by_documents(model, arguments.max_length)
            if why and not packed:
                told.append(f"padding is computed too, because of {why}")
        if tiles or attention_implementation(model.config) == DOCUMENTS:
            add_trained_places(model, tiles)
            reason = of_main_process(trainer, lambda: probe_fault(model, model.forward, stock, exact, packed))
            if reason is None:
                return told + (kept_apart(model, why, reason, trainer.accelerator.device.type) if packed else [])
            model.forward = stock
            if attention_implementation(model.config) != attention:
                model.set_attn_implementation(attention)
    if packed and not flash:
        told += kept_apart(model, why, reason, trainer.accelerator.device.type)
        mixed = of_main_process(trainer, lambda: mixing_fault(model, exact))
        if mixed:
            raise DocumentsMixed(mixed)
    return [f"the loss is computed as TRL does, because of {reason}"] * (reason is not None) + told


def is_exact(model: PreTrainedModel, arguments: SFTConfig) -> bool:
    """Whether a model computes in float32."""
    return model.dtype == torch.float32 and not arguments.tf32 and not getattr(model, "is_quantized", False)


def runs_in_tiles(trainer: SFTTrainer) -> bool:
    """Whether the LM head runs in our tiles, where TRL's kernel for it does not run."""
    return not (trainer.accelerator.device.type in KERNEL_DEVICES and is_triton_available())


def set_by_documents(model: Any, longest: int | None) -> str | None:
    """Let a model that runs with SDPA attend to each document by itself; or why it cannot, in a few words."""
    reason = documents_reason(model.config.get_text_config(), longest)
    if reason:
        return reason
    attend_by_documents(model)
    if attention_implementation(model.config) != DOCUMENTS:
        return f"{type(model).__name__}, whose attention cannot be set"
    return None


def kept_apart(model: Any, why: str | None, reason: str | None, device: str) -> list[str]:
    """How a model that still runs with SDPA is to keep packed documents apart, where that is to be said. A mask of the
    square of a row's length is 4 GB at 65 536 tokens: on a GPU FlexAttention's blocks take its place, if the model has
    them.

    Args:
        model: which is changed.
        why: what keeps it from attending to each document by itself, in a few words.
        reason: what the loss is left to TRL for.
        device: the type of the device it is trained on.
    """
    if attention_implementation(model.config) != "sdpa":
        return []
    dropout = getattr(model.config.get_text_config(), "attention_dropout", 0)  # which FlexAttention does not take
    if device == "cuda" and is_triton_available() and not dropout and supports_attention(type(model), FLEX):
        model.set_attn_implementation(FLEX)
        return [f"packed documents are kept apart by FlexAttention, because of {why or reason}"]
    return [f"packed documents are kept apart by a mask, because of {why}"] if why else []


def of_main_process(trainer: SFTTrainer, find: Callable[[], str | None]) -> str | None:
    """What the main process finds, on all."""
    found = [find() if trainer.accelerator.is_main_process else None]
    broadcast_object_list(found)
    return found[0]


def trl_reason(arguments: SFTConfig, model: PreTrainedModel) -> str | None:
    """Why a model's loss is left to TRL under these settings, in a few words, or None."""
    for name, asks in TRL_OPTIONS.items():
        if asks(getattr(arguments, name)):
            return name
    plugin = getattr(arguments, "deepspeed_plugin", None)
    if plugin is not None and plugin.zero_stage == 3:
        return "DeepSpeed ZeRO-3, whose head is whole inside its own forward alone"
    if model.config.get_text_config() is not model.config:
        return "a model of more than text"
    return None


@torch.no_grad()
def probe_fault(
    model: Any, ours: Callable[..., Any], stock: Callable[..., Any], exact: bool, packed: bool
) -> str | None:
    """What is wrong with a way for a model, from documents of random tokens that it computes in rows and TRL computes
    each alone; None where nothing is.

    Args:
        model: with TRL's fused LM head.
        ours: a forward of it.
        stock: the forward that TRL made.
        exact: it computes in float32.
        packed: a row holds several documents; else one, and padding.
    """
    if not runs_by_itself(model):
        return None
    rows, alone = probe_batches(model, PACKED_PROBE if packed else PADDED_PROBE)
    try:
        found = probed(model, ours, rows)
        expected = probed(model, stock, alone, by_documents=False)
    except torch.OutOfMemoryError:
        raise
    except FORWARD_ERRORS as error:
        return f"a model that does not take packed documents by themselves ({first_line(error)[:120]})"
    fault = difference(found, expected, exact)
    if fault is None and packed and not exact and changed(*beside_others(model, ours, rows)):
        return "a model whose log-probabilities change with the documents beside them"
    return fault


@torch.no_grad()
def mixing_fault(model: Any, exact: bool) -> str | None:
    """How documents of a row see each other as TRL computes a model, as the sentence of `DocumentsMixed` has it; None
    where they do not, or where the model itself does not run here.

    Args:
        model: as transformers made it, with TRL's fused LM head.
        exact: it computes in float32.
    """
    if not runs_by_itself(model):
        return None
    rows, alone = probe_batches(model, PACKED_PROBE)
    try:
        found, expected = (probed(model, model.forward, batch) for batch in (rows, alone))
        if not bool(expected.isfinite().all()):
            return None
        if not exact:
            found, expected = beside_others(model, model.forward, rows)
            if not changed(found, expected):
                return None
        elif difference(found, expected, exact) is None:
            return None
    except torch.OutOfMemoryError:
        raise
    except FORWARD_ERRORS:
        return None
    worst = int((found - expected).abs().argmax())
    beside = "alone" if exact else "beside another one"
    return (
        f"{type(model).__name__}, where a token of one has a log-probability of {found[worst]:.3f}, and of "
        f"{expected[worst]:.3f} {beside}"
    )


def runs_by_itself(model: Any) -> bool:
    """Whether one process has a model's weights, and can call it."""
    return not any(p.is_meta or not p.numel() or hasattr(p, "full_tensor") for p in model.parameters())


def probed(
    model: Any, forward: Callable[..., Any], batch: dict[str, torch.Tensor], by_documents: bool = True
) -> torch.Tensor:
    """Log-probabilities `[C]` of the trained tokens of a batch, by a forward of a model, which is left as it was; with
    `by_documents` under the attention that is set, else under SDPA in place of that by documents.
    """
    training, changed = model.training, not by_documents and attention_implementation(model.config) == DOCUMENTS
    model.eval()
    if changed:
        model.set_attn_implementation("sdpa")
    try:
        out = forward(**batch, use_cache=False, fused_lm_head=True)
    finally:
        if changed:
            model.set_attn_implementation(DOCUMENTS)
        model.train(training)
    logprobs: torch.Tensor = out.log_probs[out.label_mask].float()
    return logprobs


def difference(found: torch.Tensor, expected: torch.Tensor, exact: bool) -> str | None:
    """In which way log-probabilities `[C]` are not those of documents alone `[C]`, or None."""
    beyond = (found - expected).abs() - (1e-4 if exact else 1e-2) * expected.abs()
    worst = int(beyond.argmax())
    if beyond[worst] <= (1e-4 if exact else 5e-2):
        return None
    return f"a model whose log-probabilities differ ({found[worst]:.3f}, and {expected[worst]:.3f} of a document alone)"


def beside_others(
    model: Any, forward: Callable[..., Any], rows: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities `[C]` of documents behind others, and `[C]` behind others of the same lengths. In less than
    float32 roundings differ with the shape of a batch, and not with what stands beside a document.
    """
    labels = rows["labels"].clone()
    labels[0, :PROBED] = IGNORED
    others = rows["input_ids"].where(labels_reach(labels), rows["input_ids"].roll(3, 1))
    batches = [rows | {"labels": labels, "input_ids": ids} for ids in (rows["input_ids"], others)]
    before, behind = (probed(model, forward, batch) for batch in batches)
    return before, behind


def changed(found: torch.Tensor, expected: torch.Tensor) -> bool:
    """Whether log-probabilities `[C]` in less than float32 differ from others `[C]` by more than a rounding or two."""
    return float((found - expected).abs().mean()) > LEAK


def labels_reach(labels: torch.Tensor) -> torch.Tensor:
    """Booleans `[B, S]`: the places of documents of `PROBED` tokens that end with the last label of their row."""
    place = torch.arange(labels.shape[1], device=labels.device)
    last = torch.where(labels != IGNORED, place, -1).amax(1, keepdim=True)
    return (place <= last) & (place > last - PROBED)


def probe_batches(model: Any, rows: tuple[tuple[tuple[int, int], ...], ...]) -> tuple[dict[str, torch.Tensor], ...]:
    """Documents of random tokens in rows `[B, S]`, and those of them that are trained each in a row of its own.

    Args:
        model: whose vocabulary and device they are for.
        rows: the documents of each, by length and first trained token.
    """
    vocabulary, device = model.config.get_text_config().vocab_size, next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    width = max(sum(length for length, _ in documents) for documents in rows)
    ids = torch.randint(min(10, vocabulary // 2), vocabulary, (len(rows), width), generator=generator)
    labels, positions, alone = torch.full_like(ids, IGNORED), [], []
    for row, documents in enumerate(rows):
        lengths, start = [length for length, _ in documents], 0
        for length, first in documents:
            labels[row, start + first : start + length] = ids[row, start + first : start + length]
            if first < length:
                alone.append((ids[row, start : start + length], labels[row, start : start + length]))
            start += length
        positions.append(torch.from_numpy(position_ids([*lengths, width - sum(lengths)])))
    batches = (
        {"input_ids": ids, "labels": labels, "position_ids": torch.stack(positions)},
        {
            "input_ids": torch.stack([document for document, _ in alone]),
            "labels": torch.stack([trained for _, trained in alone]),
            "position_ids": torch.arange(PROBED).expand(len(alone), -1),
        },
    )
    return tuple({name: tensor.to(device) for name, tensor in batch.items()} for batch in batches)
