"""Generation with transformers: in slots that are filled again, or in batches that run to their longest answer."""

import threading
from collections.abc import Callable, Set
from typing import Any, cast

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from apo_soup.models.completion import Completion, Sampling
from apo_soup.models.growing_cache import growing_cache
from apo_soup.models.half_threads import batches_together, on_half_threads
from apo_soup.models.positions import forget_longest_text, rope_by_length
from apo_soup.models.slots import Slots, prompt_parts
from apo_soup.private import MADE_FROM_MODEL

# Generation settings of a model that `Sampling`, or a loop of one token after another, makes no difference to.
MAKES_NO_DIFFERENCE = frozenset(
    (
        "bos_token_id", "do_sample", "eos_token_id", "max_length", "max_new_tokens", "min_p", "pad_token_id",
        "temperature", "top_k", "top_p", "transformers_version", "use_cache", MADE_FROM_MODEL,
        "cache_implementation",
    )
)  # fmt: skip


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    sampling: Sampling,
    batch_size: int,
    ends: Set[int],
    progress: Callable[[int], None] | None = None,
) -> list[Completion]:
    """Complete every prompt; the results are in the prompts' order. The same seed gives the same text on CPU, whatever
    else is asked for beside a prompt; a prompt that is there several times is drawn for several times.

    Args:
        batch_size: prompts at a time; on a CPU two halves of them, each on half of the threads.
        ends: ids of tokens of which any ends an answer.
        progress: called with the number of prompts that are done, as they are.
    """
    results: dict[int, Completion] = {}
    if not fits_slots(model):
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        torch.manual_seed(sampling.seed)
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            if rope_by_length(model.config.get_text_config()):
                forget_longest_text(model)
            completions = generate_batch(model, tokenizer, [prompts[i] for i in indices], sampling, ends)
            results.update(zip(indices, completions, strict=True))
            if progress:
                progress(len(results))
        return [results[index] for index in range(len(prompts))]
    lock, halted = threading.Lock(), threading.Event()

    def done(number: int, ids: list[int]) -> None:
        with lock:
            results[number] = completion_of_ids(ids, tokenizer, ends)
            if progress:
                progress(len(results))

    ids = tokenizer(prompts, add_special_tokens=False, return_token_type_ids=False).input_ids if prompts else []
    parts = prompt_parts(ids, batches_together(model.device))
    size = -(-batch_size // max(1, len(parts)))

    def answer(numbers: list[int]) -> None:
        Slots(model, sampling, ends, done).answer(ids, size, numbers, halted.is_set)

    list(on_half_threads(answer, parts, model.device, halt=halted.set))
    return [results[index] for index in range(len(prompts))]


def fits_slots(model: PreTrainedModel) -> bool:
    """Whether a model's answers can be made in slots: its state is keys and values of all positions, and its own
    generation settings ask for nothing that only transformers' loop does, such as a penalty of repetition.
    """
    settings = model.generation_config.to_diff_dict() if model.generation_config else {}
    asked = {name for name, value in settings.items() if value is not None and value is not False} - MAKES_NO_DIFFERENCE
    causal = not getattr(model.config, "is_encoder_decoder", False)
    return causal and not asked and growing_cache(model) is not None


@torch.inference_mode()
def generate_batch(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    sampling: Sampling,
    ends: Set[int],
) -> list[Completion]:
    """Complete prompts together, whatever the random state is; any of `ends` ends an answer."""
    choice: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if sampling.temperature > 0:
        choice = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p}
        choice |= {"top_k": sampling.top_k, "min_p": sampling.min_p or None}
    inputs = tokenizer(
        prompts,
        return_tensors="pt",
        padding=True,
        padding_side="left",
        add_special_tokens=False,
        return_token_type_ids=False,
    ).to(model.device)
    output = cast(Any, model).generate(
        **inputs,
        max_new_tokens=sampling.max_new_tokens,
        eos_token_id=sorted(ends),
        pad_token_id=tokenizer.pad_token_id,
        **choice,
    )
    return [completion_of_ids(ids, tokenizer, ends) for ids in output[:, inputs["input_ids"].shape[1] :].tolist()]


def end_ids(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel | None = None) -> set[int]:
    """The tokens that end a turn: the tokenizer's, and those of a model's generation settings (Gemma has two)."""
    own = model.generation_config.eos_token_id if model is not None and model.generation_config else None
    own = [] if own is None else own if isinstance(own, list) else [own]
    return {tokenizer.eos_token_id, *own} - {None}


def completion_of_ids(ids: list[int], tokenizer: PreTrainedTokenizerBase, ends: Set[int]) -> Completion:
    """Generated ids, with or without end of turn and padding behind them, as text."""
    stops = ends | {tokenizer.pad_token_id}
    length = next((n for n, i in enumerate(ids) if i in stops), len(ids))
    # Special tokens such as <think> are part of the text; only the end of turn is not.
    return Completion(str(tokenizer.decode(ids[:length], skip_special_tokens=False)), length, length < len(ids))
