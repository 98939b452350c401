"""Which way the loss of packed rows is computed: what it comes from alone (`sft/trained_places.py`), or whole by TRL.

Both compute the same. Options and models that the first does not know are found here and run the second, with a line
that says so. Models are judged by their configuration first and then by a probe: a small batch that both compute.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from accelerate.utils import broadcast_object_list
from peft import PeftModel
from transformers import PreTrainedModel
from transformers.utils import is_triton_available
from trl import SFTConfig, SFTTrainer

from apo_soup.data.packing import position_ids
from apo_soup.data.trained_ranges import IGNORED
from apo_soup.errors import first_line
from apo_soup.models.document_attention import DOCUMENTS, attend_by_documents
from apo_soup.models.positions import rope_by_length
from apo_soup.models.refusals import FORWARD_ERRORS
from apo_soup.private import attention_implementation
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
# Layers that see so many tokens back: kind -> the name of the number.
WINDOWS = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
# Devices on which TRL's own kernel for the LM head runs, which passes trained places alone too.
KERNEL_DEVICES = ("cuda", "xpu")
# Documents of the probe's rows, and the first trained token of each.
PROBE_DOCUMENTS = (((9, 3), (1, 1), (7, 7)), ((5, 1), (6, 6)))


def use_trained_places(trainer: SFTTrainer) -> list[str]:
    """Let a trainer that is not wrapped yet compute what the loss comes from alone, as far as options and model allow.
    All ranks call it and go one way.

    Args:
        trainer: with its model as transformers or PEFT made it.

    Returns:
        Why something is computed as TRL does, a sentence's end for each; nothing where nothing is.
    """
    wrapped: Any = trainer.model
    model: Any = wrapped.get_base_model() if isinstance(wrapped, PeftModel) else wrapped
    arguments = cast(SFTConfig, trainer.args)
    reason = trl_reason(arguments, model)
    if reason:
        return [f"the loss is computed as TRL does, because of {reason}"]
    stock, attention = model.forward, attention_implementation(model.config)
    tiles = not (trainer.accelerator.device.type in KERNEL_DEVICES and is_triton_available())
    told = []
    if attention == "sdpa":
        reason = documents_reason(model.config.get_text_config(), arguments.max_length)
        if reason is None:
            attend_by_documents(model)
            if attention_implementation(model.config) != DOCUMENTS:
                reason = f"{type(model).__name__}, whose attention cannot be set"
        if reason:
            told.append(f"packed documents are kept apart by a mask, because of {reason}")
    if not tiles and attention_implementation(model.config) != DOCUMENTS:
        return told
    add_trained_places(model, tiles)
    exact = model.dtype == torch.float32 and not arguments.tf32 and not getattr(model, "is_quantized", False)
    faults = [probe_fault(model, stock, exact) if trainer.accelerator.is_main_process else None]
    broadcast_object_list(faults)
    if faults[0]:
        model.forward = stock
        if attention_implementation(model.config) != attention:
            model.set_attn_implementation(attention)
        return [f"the loss is computed as TRL does, because of {faults[0]}"]
    return told


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


def documents_reason(text: Any, longest: int | None) -> str | None:
    """Why a model cannot attend to each document by itself, in a few words, or None.

    Args:
        text: the configuration of its language model.
        longest: tokens of a document at most; None for any number.
    """
    kinds = set(getattr(text, "layer_types", None) or ()) - {"full_attention"}
    if kinds - set(WINDOWS):
        return f"{', '.join(sorted(kinds - set(WINDOWS)))} layers"
    for kind, name in WINDOWS.items():
        window = getattr(text, name, None)
        everywhere = not getattr(text, "layer_types", None) and getattr(text, "use_sliding_window", True)
        if window and (kind in kinds or everywhere) and (longest is None or window < longest):
            return f"{name} {window:,}, and documents may be longer"
    rope = rope_by_length(text)
    return f"{rope} positions, which depend on the longest of a batch" if rope else None


@torch.no_grad()
def probe_fault(model: Any, stock: Callable[..., Any], exact: bool) -> str | None:
    """What is wrong with our way for a model, from a batch of random tokens that both ways compute; None where nothing.

    Args:
        model: with `add_trained_places` called on it.
        stock: its forward before.
        exact: it computes in float32.
    """
    if any(parameter.is_meta for parameter in model.parameters()):
        return None
    device, training = next(model.parameters()).device, model.training
    batch = probe_batch(model.config.get_text_config().vocab_size, device)
    attention = attention_implementation(model.config)
    model.eval()
    try:
        found = model(**batch, use_cache=False, fused_lm_head=True)
        if attention == DOCUMENTS:
            model.set_attn_implementation("sdpa")
        expected = stock(**batch, use_cache=False, fused_lm_head=True)
    except torch.OutOfMemoryError:
        raise
    except FORWARD_ERRORS as error:
        return f"a model that does not take packed documents by themselves ({first_line(error)[:120]})"
    finally:
        if attention == DOCUMENTS:
            model.set_attn_implementation(DOCUMENTS)
        model.train(training)
    ours, theirs = (out.log_probs[out.label_mask].float() for out in (found, expected))
    beyond = (ours - theirs).abs() - (1e-4 if exact else 1e-2) * theirs.abs()
    worst = int(beyond.argmax())
    if beyond[worst] <= (1e-4 if exact else 5e-2):
        return None
    return f"a model whose log-probabilities differ ({ours[worst]:.3f}, and {theirs[worst]:.3f} as TRL computes them)"


def probe_batch(vocabulary: int, device: torch.device) -> dict[str, torch.Tensor]:
    """A batch `[2, 17]` of random tokens in packed rows, the second of them padded."""
    generator = torch.Generator().manual_seed(0)
    width = max(sum(length for length, _ in documents) for documents in PROBE_DOCUMENTS)
    ids = torch.randint(min(10, vocabulary // 2), vocabulary, (len(PROBE_DOCUMENTS), width), generator=generator)
    labels = torch.full_like(ids, IGNORED)
    positions = []
    for row, documents in enumerate(PROBE_DOCUMENTS):
        lengths = [length for length, _ in documents]
        starts = [sum(lengths[:number]) for number in range(len(lengths))]
        for start, (length, first) in zip(starts, documents, strict=True):
            labels[row, start + first : start + length] = ids[row, start + first : start + length]
        positions.append(torch.from_numpy(position_ids([*lengths, width - sum(lengths)])))
    batch = {"input_ids": ids, "labels": labels, "position_ids": torch.stack(positions)}
    return {name: tensor.to(device) for name, tensor in batch.items()}
