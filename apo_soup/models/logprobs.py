"""Log-probabilities of given tokens under a model, in batches of bounded size."""

from itertools import takewhile

import torch
from transformers import DynamicCache, PreTrainedModel

Item = tuple[list[int], list[int]]
Scored = tuple[float, int, bool]


@torch.inference_mode()
def completion_logprobs(model: PreTrainedModel, items: list[Item], tokens_per_batch: int) -> list[Scored]:
    """For each (prompt ids, completion ids): summed log-probability, its token count, and whether greedy agrees.

    Items are sorted by length and padded on the right, at most `tokens_per_batch` places at a time; only completion
    positions pass through the LM head.
    """
    order = sorted(range(len(items)), key=lambda i: len(items[i][0]) + len(items[i][1]))
    results: list[Scored | None] = [None] * len(items)
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * sum(map(len, items[order[stop]])) <= tokens_per_batch:
            stop += 1
        chosen = order[start:stop]
        ids = padded([items[i][0] + items[i][1] for i in chosen])
        # The logits that predict the earliest completion token of the batch, and all behind it.
        first = min(len(items[i][0]) for i in chosen) - 1
        # Padding stands behind every item, where causal attention does not look, so it needs no mask; a mask would keep
        # the model off its quickest attention.
        logits = model(input_ids=ids.to(model.device), use_cache=False, logits_to_keep=ids.shape[1] - first).logits
        for row, i in enumerate(chosen):
            results[i] = scored(logits[row], len(items[i][0]) - 1 - first, items[i][1])
        start = stop
    return results


def padded(rows: list[list[int]]) -> torch.Tensor:
    """Token ids `[B, S]`, padded on the right, where causal attention does not look."""
    ids = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
    for number, row in enumerate(rows):
        ids[number, : len(row)] = torch.tensor(row)
    return ids


def scored(logits: torch.Tensor, place: int, completion: list[int]) -> Scored:
    """One completion whose first token is predicted by `logits[place]`, from logits `[S, V]` of its row."""
    scores = logits[place : place + len(completion)].float().log_softmax(-1)
    targets = torch.tensor(completion, device=scores.device)
    picked = scores.gather(1, targets[:, None])
    return picked.sum().item(), len(completion), bool((scores.argmax(-1) == targets).all())


@torch.inference_mode()
def shared_logprobs(model: PreTrainedModel, items: list[Item], tokens_per_batch: int) -> list[Scored]:
    """As `completion_logprobs`, of prompts that begin alike, such as questions about one long text: what they share is
    computed once and kept in a cache. Prompts that part early, and models whose state is not only a cache of keys and
    values, are computed the other way.
    """
    places = zip(*(prompt[:-1] for prompt, _ in items), strict=False)  # a prompt's last token predicts the answer
    shared = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, places))
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
    return [scored(logits[row], len(prompt) - 1 - shared, answer) for row, (prompt, answer) in enumerate(items)]
