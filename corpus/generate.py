"""Batched generation with transformers: prompts sorted by length, left padding, KV cache."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; temperature 0 is greedy."""

    max_new_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True)
class Completion:
    """Generated text without its end-of-turn token, its token count, and whether it ended by itself."""

    text: str
    tokens: int
    finished: bool


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[str],
    sampling: Sampling,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> list[Completion]:
    """Complete every prompt; the results are in the prompts' order. The same seed gives the same text on CPU."""
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    results: list[Completion | None] = [None] * len(prompts)
    torch.manual_seed(sampling.seed)
    choice = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if sampling.temperature > 0:
        choice = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    ends = {tokenizer.eos_token_id, tokenizer.pad_token_id}
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = tokenizer(
            [prompts[i] for i in chosen],
            return_tensors="pt",
            padding=True,
            padding_side="left",
            add_special_tokens=False,
            return_token_type_ids=False,
        ).to(model.device)
        output = model.generate(
            **batch,
            max_new_tokens=sampling.max_new_tokens,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            **choice,
        )
        for index, ids in zip(chosen, output[:, batch["input_ids"].shape[1] :].tolist(), strict=True):
            length = next((n for n, i in enumerate(ids) if i in ends), len(ids))
            # Special tokens such as <think> are part of the text; only the end of turn is not.
            text = tokenizer.decode(ids[:length], skip_special_tokens=False)
            results[index] = Completion(text, length, length < len(ids) or ids[-1:] == [tokenizer.eos_token_id])
        if progress:
            progress(start + len(chosen))
    return results
