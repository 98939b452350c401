"""Which trainer runs a recipe: the packed one, or the stock one with the reason.

The packed path computes what the stock path does for the losses and options it knows. Every other one is found here and
runs on the stock trainer; none is ignored. Models are judged by their configuration first and, when they are loaded, by
a probe: two short pairs scored packed and by the model's own logits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from traceback import walk_tb
from typing import Any

import torch
from transformers import PreTrainedConfig
from trl import DPOConfig

from apo.losses import PAIR_LOSSES, SMOOTHED_LOSSES
from apo.metrics import METRIC_NAMES
from apo.packable_models import model_reason
from apo.packed_pairs import Ids, PairIds, pack_pairs
from apo.pair_attention import PAIRS
from apo.scoring import scoring_inputs
from apo_soup.errors import first_line
from apo_soup.models.lm_head import tiled_logprobs
from apo_soup.models.refusals import FORWARD_ERRORS
from apo_soup.private import causal_model_class, lets_attention_be_set, supports_attention

# Options that the packed trainer does not carry out: name -> whether a value asks for it.
STOCK_OPTIONS: dict[str, Callable[[Any], bool]] = {
    "f_divergence_type": lambda v: v != "reverse_kl",
    "ld_alpha": lambda v: v is not None,
    "use_weighting": bool,
    "sync_ref_model": bool,
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
    "metric_for_best_model": lambda v: v is not None and v.removeprefix("eval_") not in METRIC_NAMES,
}
# Options of accelerate of which only the usual value is carried out.
ACCELERATOR_OPTIONS = {
    "split_batches": False,
    "dispatch_batches": None,
    "even_batches": True,
    "use_seedable_sampler": True,
}
# Tokens of prompt, chosen and rejected of the pairs that a loaded model is tried on.
PROBE_LENGTHS = ((7, 5, 9), (11, 8, 6))


class NotPackable(Exception):
    """A model that cannot be trained on packed pairs; the message says what it is, such as `a mixture-of-experts
    model`.
    """


def stock_reason(arguments: DPOConfig, config: PreTrainedConfig) -> str | None:
    """Why the packed trainer cannot run these settings with a model of this configuration, in a few words, or None."""
    kinds = arguments.loss_type if isinstance(arguments.loss_type, list) else [arguments.loss_type]
    unknown = [kind for kind in kinds if kind not in PAIR_LOSSES]
    if unknown:
        return f"loss_type {', '.join(unknown)}"
    if arguments.label_smoothing and not set(kinds) & set(SMOOTHED_LOSSES):
        return "label_smoothing"
    for name, asks in STOCK_OPTIONS.items():
        value = getattr(arguments, name)
        if asks(getattr(value, "value", value)):  # a name, where transformers makes an enumeration of it
            return name
    for name, usual in ACCELERATOR_OPTIONS.items():
        if getattr(arguments.accelerator_config, name) != usual:
            return f"accelerator_config.{name}"
    plugin = getattr(arguments, "deepspeed_plugin", None)
    if plugin is not None and plugin.zero_stage == 3:
        return "DeepSpeed ZeRO-3, whose LM head is only whole inside its own forward"
    return model_reason(config.get_text_config())


def packed_attention(config: PreTrainedConfig, requested: str | None, on_gpu: bool) -> str:
    """The attention implementation for packed pairs: FlexAttention on a GPU; SDPA elsewhere, where it is requested, or
    where the model has no FlexAttention: pair by pair where the model lets its attention be set, else by a mask.

    Raises:
        NotPackable: the model has neither.
    """
    model_class = causal_model_class(config)
    candidates = ["flex_attention", "sdpa"] if on_gpu and requested != "sdpa" else ["sdpa"]
    for name in candidates:
        # A model of remote code is not listed, and says for itself what it takes when it is loaded.
        if model_class is None or supports_attention(model_class, name):
            by_pairs = name == "sdpa" and model_class is not None and lets_attention_be_set(model_class)
            return PAIRS if by_pairs else name
    raise NotPackable(f"{getattr(model_class, '__name__', model_class)}, which has no {' and no '.join(candidates)}")


@contextmanager
def refusals_of_model() -> Iterator[None]:
    """Turn what a model raises over its arguments into NotPackable. Only the model's own call stands inside: elsewhere
    the same exceptions are faults of ours, and so are those of our scoring, which that call ends with.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise  # is no word on what the model takes
    except FORWARD_ERRORS as error:
        if any(frame.f_code is tiled_logprobs.__code__ for frame, _ in walk_tb(error.__traceback__)):
            raise
        raise NotPackable(f"a model that does not take packed pairs ({first_line(error)[:120]})") from error


def check_packed_logprobs(
    model: Callable[..., Any], attention: str, device: torch.device | str, vocabulary: int, exact: bool
) -> None:
    """Compare two pairs of random tokens scored together in one row with the model's own logits of each answer alone.

    Args:
        model: a model on `device` that `add_scoring` was called on, or what DDP, FSDP or DeepSpeed made of it.
        attention: its attention implementation.
        vocabulary: how many tokens it has, V.
        exact: the model computes in float32, so differences beyond rounding are faults.

    Raises:
        NotPackable: they differ, or the model does not run so at all.
    """
    generator = torch.Generator().manual_seed(0)
    low = min(10, vocabulary // 2)
    pairs = [
        PairIds(*(torch.randint(low, vocabulary, (n,), generator=generator).tolist() for n in lengths))
        for lengths in PROBE_LENGTHS
    ]
    row = pack_pairs(pairs).to(device)
    inputs = scoring_inputs(row, attention)
    with refusals_of_model():
        logprobs = model(**inputs)
    together = row.answer_sums(logprobs).float().flatten()
    answers = [(pair.prompt, answer) for pair in pairs for answer in (pair.chosen, pair.rejected)]
    alone = torch.stack([_answer_alone(model, device, prompt, answer) for prompt, answer in answers])
    beyond = (together - alone).abs() - (1e-4 if exact else 1e-2) * alone.abs()
    worst = int(beyond.argmax())
    if not beyond[worst] <= 1e-3:
        raise NotPackable(
            f"a model whose packed log-probabilities differ ({together[worst]:.3f}, and {alone[worst]:.3f} alone)"
        )


def _answer_alone(model: Callable[..., Any], device: torch.device | str, prompt: Ids, answer: Ids) -> torch.Tensor:
    """Log-probability `[]` of one answer in a sequence of its own, from the model's logits `[1, S, V]`."""
    ids = torch.tensor([[*prompt, *answer]], device=device)
    with refusals_of_model():
        logits: torch.Tensor = model(input_ids=ids, use_cache=False).logits
    scores = logits[0, len(prompt) - 1 : -1].float().log_softmax(-1)
    return scores.gather(1, torch.tensor(answer, device=scores.device)[:, None]).sum()
