"""Which trainer runs a recipe: the packed one, or the stock one with the reason.

The packed path computes what the stock path does for the losses and options it knows. Every other one is found here and
runs on the stock trainer; none is ignored. Models are judged by their configuration first and, when they are loaded, by
a probe: two short pairs scored packed and by the model's own logits.
"""

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM
from trl import DPOConfig

from apo.losses import LOSSES
from apo.metrics import MEASURED
from apo.rows import Pair
from apo.scoring import rescales_logits
from apo_soup.errors import first_line

# Options of the stock trainer that its packed child does not carry out: name -> whether a value asks for it.
STOCK_OPTIONS: dict[str, Callable[[Any], bool]] = {
    "f_divergence_type": lambda v: v != "reverse_kl",
    "ld_alpha": lambda v: v is not None,
    "use_weighting": bool,
    "sync_ref_model": bool,
    "label_smoothing": bool,
    "loss_weights": bool,
    "neftune_noise_alpha": lambda v: v is not None,
    "include_num_input_tokens_seen": lambda v: v not in (None, False, "no"),
    "bf16_full_eval": bool,
    "fp16_full_eval": bool,
    "torch_empty_cache_steps": lambda v: v is not None,
    "auto_find_batch_size": bool,
    "parallelism_config": lambda v: v is not None,
    # These step by themselves in every backward pass, of which a packed step has one a row.
    "optim": lambda v: v.startswith(("schedule_free", "lomo", "adalomo")) or v.endswith("layerwise"),
    # The two answers of a pair share their prompt's activations, and so would share its dropout.
    "disable_dropout": lambda v: v is False,
    "metric_for_best_model": lambda v: v is not None and v.removeprefix("eval_") not in MEASURED,
}
ACCELERATOR_OPTIONS = {"split_batches": False, "dispatch_batches": None, "even_batches": True,
                       "use_seedable_sampler": True}  # fmt: skip
# Rotary embeddings whose frequencies follow from the largest position of a batch, so a pair would feel its neighbours.
LENGTH_DEPENDENT = ("dynamic", "longrope")
PROBE_PAIRS = ((7, 5, 9), (11, 8, 6))
# What models, and code of their own that came with them, raise over arguments they do not take.
REFUSALS = (RuntimeError, ValueError, TypeError, NotImplementedError, AttributeError, LookupError, AssertionError)


class NotPackable(Exception):
    """A loaded model whose packed log-probabilities are not those of its plain sequences, with what was found."""


def stock_reason(arguments: DPOConfig, config: Any) -> str | None:
    """Why the packed path cannot run these settings, in a few words, or None when it can."""
    kinds = arguments.loss_type if isinstance(arguments.loss_type, list) else [arguments.loss_type]
    if len(kinds) != 1 or kinds[0] not in LOSSES:
        return f"loss_type {', '.join(kinds)}"
    for name, asked in STOCK_OPTIONS.items():
        value = getattr(arguments, name)
        if asked(getattr(value, "value", value)):  # a name, where transformers makes an enumeration of it
            return name
    for name, usual in ACCELERATOR_OPTIONS.items():
        if getattr(arguments.accelerator_config, name) != usual:
            return f"accelerator_config.{name}"
    plugin = getattr(arguments, "deepspeed_plugin", None)
    if plugin is not None and plugin.zero_stage == 3:
        return "DeepSpeed ZeRO-3, whose LM head is only whole inside its own forward"
    return model_reason(config.get_text_config())


def model_reason(text: Any) -> str | None:
    """Why a model of this configuration cannot be scored packed, or None."""
    rescaled = rescales_logits(text)
    if rescaled:
        return f"a model with {rescaled}"
    kinds = set(getattr(text, "layer_types", None) or ()) - {"full_attention"}
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    if window or getattr(text, "attention_chunk_size", None) or "sliding_attention" in kinds:
        return "a model with sliding-window attention"
    if kinds:
        return f"a model with {', '.join(sorted(kinds))} layers"
    if getattr(text, "num_experts", None) or getattr(text, "num_local_experts", None):
        return "a mixture-of-experts model"
    if getattr(text, "attention_dropout", 0.0):
        return "a model with attention_dropout"
    rope = getattr(text, "rope_parameters", None) or {}
    for part in (rope, *(v for v in rope.values() if isinstance(v, dict))):
        if part.get("rope_type") in LENGTH_DEPENDENT:
            return f"a model with {part['rope_type']} positions, which depend on the longest of a row"
    return None


def attention_of(config: Any, asked: str | None, on_gpu: bool) -> str:
    """FlexAttention on a GPU, SDPA elsewhere, if asked, or where the model has no FlexAttention.

    Raises:
        NotPackable: the model has neither.
    """
    kind = AutoModelForCausalLM._model_mapping.get(type(config), None)
    # A model of remote code is not listed, and says for itself what it takes when it is loaded.
    takes = {
        "flex_attention": kind is None or getattr(kind, "_supports_flex_attn", False),
        "sdpa": kind is None or getattr(kind, "_supports_sdpa", False),
    }
    wanted = ["flex_attention", "sdpa"] if on_gpu and asked != "sdpa" else ["sdpa"]
    for name in wanted:
        if takes[name]:
            return name
    raise NotPackable(f"{kind.__name__}, which has no {' and no '.join(wanted)}")


def probe(
    packed: Callable[[list[Pair]], torch.Tensor],
    plain: Callable[[list[int]], torch.Tensor],
    vocabulary: int,
    exact: bool,
) -> None:
    """Compare two pairs scored together in one row with the model's own logits of each answer alone.

    Args:
        packed: log-probabilities `[2 N]` of a row of these pairs.
        plain: logits `[S, V]` of one sequence of tokens.
        exact: the model computes in float32, so differences beyond rounding are faults.

    Raises:
        NotPackable: they differ, or the model does not run so at all.
    """
    generator = torch.Generator().manual_seed(0)
    pairs = [
        tuple(torch.randint(min(10, vocabulary // 2), vocabulary, (n,), generator=generator).tolist() for n in lengths)
        for lengths in PROBE_PAIRS
    ]
    try:
        together = packed(pairs).float()
        alone = torch.stack([_alone(plain, prompt, answer) for prompt, *answers in pairs for answer in answers])
    except torch.OutOfMemoryError:
        raise  # is no word on what the model takes
    except REFUSALS as error:
        raise NotPackable(f"a model that does not take packed pairs ({first_line(error)[:120]})") from error
    off = (together - alone).abs() - (1e-4 if exact else 1e-2) * alone.abs()
    worst = int(off.argmax())
    if not off[worst] <= 1e-3:
        raise NotPackable(
            f"a model whose packed log-probabilities are others ({together[worst]:.3f} for {alone[worst]:.3f})"
        )


def _alone(plain: Callable[[list[int]], torch.Tensor], prompt: list[int], answer: list[int]) -> torch.Tensor:
    """Log-probability of one answer in a sequence of its own."""
    scores = plain([*prompt, *answer])[len(prompt) - 1 : -1].float().log_softmax(-1)
    return scores.gather(1, torch.tensor(answer, device=scores.device)[:, None]).sum()
