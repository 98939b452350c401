"""Log-probabilities of given tokens under a model, in batches of bounded size."""

import torch
from transformers import PreTrainedModel


@torch.inference_mode()
def completion_logprobs(
    model: PreTrainedModel, items: list[tuple[list[int], list[int]]], tokens_per_batch: int
) -> list[tuple[float, int, bool]]:
    """For each (prompt ids, completion ids): summed log-probability, its token count, and whether greedy agrees.

    Items are sorted by length and padded on the right, at most `tokens_per_batch` places at a time; only completion
    positions pass through the LM head.
    """
    order = sorted(range(len(items)), key=lambda i: len(items[i][0]) + len(items[i][1]))
    results: list[tuple[float, int, bool] | None] = [None] * len(items)
    start = 0
    while start < len(order):
        stop = start + 1
        while stop < len(order) and (stop + 1 - start) * sum(map(len, items[order[stop]])) <= tokens_per_batch:
            stop += 1
        chosen = order[start:stop]
        width = max(len(items[i][0]) + len(items[i][1]) for i in chosen)
        ids = torch.zeros(len(chosen), width, dtype=torch.long)
        for row, i in enumerate(chosen):
            whole = items[i][0] + items[i][1]
            ids[row, : len(whole)] = torch.tensor(whole)
        # The logits that predict the earliest completion token of the batch, and all behind it.
        first = min(len(items[i][0]) for i in chosen) - 1
        # Padding stands behind every item, where causal attention does not look, so it needs no mask; a mask would keep
        # the model off its quickest attention.
        logits = model(input_ids=ids.to(model.device), use_cache=False, logits_to_keep=width - first).logits
        for row, i in enumerate(chosen):
            prompt, completion = items[i]
            place = len(prompt) - 1 - first
            scores = logits[row, place : place + len(completion)].float().log_softmax(-1)
            targets = torch.tensor(completion, device=scores.device)
            picked = scores.gather(1, targets[:, None])
            greedy = bool((scores.argmax(-1) == targets).all())
            results[i] = (picked.sum().item(), len(completion), greedy)
        start = stop
    return results
