"""Log-probabilities of given tokens under a model, in batches of bounded size."""

from itertools import takewhile
from typing import NamedTuple

import torch
from transformers import DynamicCache, PreTrainedModel

# Prompt ids and completion ids.
ScoredItem = tuple[list[int], list[int]]


class CompletionScore(NamedTuple):
    """The summed log-probability of a completion's tokens, their count, and whether greedy decoding agrees with all."""

    logprob: float
    tokens: int
    greedy: bool


@torch.inference_mode()
def completion_logprobs(
    model: PreTrainedModel, items: list[ScoredItem], tokens_per_batch: int
) -> list[CompletionScore]:
    """The score of each item's completion, in the items' order.

    Items are sorted by length and padded on the right, at most `tokens_per_batch` positions at a time; only completion
    positions pass through the LM head.
    """
    order = sorted(range(len(items)), key=lambda i: len(items[i][0]) + len(items[i][1]))
    results: dict[int, CompletionScore] = {}
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * sum(map(len, items[order[stop]])) <= tokens_per_batch:
            stop += 1
        batch = order[start:stop]
        ids = padded([items[i][0] + items[i][1] for i in batch])
        # The logits that predict the earliest completion token of the batch, and all behind it.
        first = min(len(items[i][0]) for i in batch) - 1
        # Padding stands behind every item, where causal attention does not look, so it needs no mask; a mask would keep
        # the model off its quickest attention.
        logits = model(input_ids=ids.to(model.device), use_cache=False, logits_to_keep=ids.shape[1] - first).logits
        for row, i in enumerate(batch):
            results[i] = completion_score(logits[row], len(items[i][0]) - 1 - first, items[i][1])
        start = stop
    return [results[index] for index in range(len(items))]


def padded(rows: list[list[int]]) -> torch.Tensor:
    """Token ids `[B, S]`, padded on the right, where causal attention does not look."""
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    return ids


def completion_score(logits: torch.Tensor, first: int, completion: list[int]) -> CompletionScore:
    """One completion whose first token is predicted by `logits[first]`, from logits `[S, V]` of its row."""
    scores = logits[first : first + len(completion)].float().log_softmax(-1)
    targets = torch.tensor(completion, device=scores.device)
    picked = scores.gather(1, targets[:, None])
    greedy = bool((scores.argmax(-1) == targets).all())
    return CompletionScore(picked.sum().item(), len(completion), greedy)


@torch.inference_mode()
def shared_logprobs(model: PreTrainedModel, items: list[ScoredItem], tokens_per_batch: int) -> list[CompletionScore]:
    """As `completion_logprobs`, of prompts that begin alike, such as questions about one long text: what they share is
    computed once and kept in a cache. Prompts that part early, and models whose state is not only a cache of keys and
    values, are computed the other way.
    """
    columns = zip(*(prompt[:-1] for prompt, _ in items), strict=False)  # a prompt's last token predicts the answer
    shared = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, columns))
    width = max(len(prompt) + len(completion) for prompt, completion in items) - shared
    cache = DynamicCache(config=model.config)
    repeats = all(hasattr(layer, "batch_repeat_interleave") for layer in cache.layers)
    if shared < 1 or len(items) == 1 or not repeats or width * len(items) > tokens_per_batch:
        return completion_logprobs(model, items, tokens_per_batch)
    beginning = torch.tensor([items[0][0][:shared]], device=model.device)
    model(input_ids=beginning, past_key_values=cache, use_cache=True, logits_to_keep=1)
    cache.batch_repeat_interleave(len(items))
    ids = padded([prompt[shared:] + completion for prompt, completion in items])
    logits = model(input_ids=ids.to(model.device), past_key_values=cache, use_cache=True).logits
    return [
        completion_score(logits[row], len(prompt) - 1 - shared, answer) for row, (prompt, answer) in enumerate(items)
    ]
