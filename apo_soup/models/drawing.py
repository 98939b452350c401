"""Which token comes next: the likeliest, or one that is drawn with numbers of the answer's own."""

import random

import torch

from apo_soup.models.completion import Sampling


def answer_random(seed: int, number: int) -> random.Random:
    """The random numbers of one answer: the same whatever else is generated beside it, on every machine.

    Args:
        number: the answer's place among those that are asked for with this seed.
    """
    return random.Random(f"{seed} {number}")


def answer_seed(seed: int, number: int) -> int:
    """The seed of one answer for an engine that draws by itself: another seed of all shares none with it.

    Args:
        number: as in `answer_random`.
    """
    return answer_random(seed, number).getrandbits(31)


def next_tokens(logits: torch.Tensor, sampling: Sampling, draws: list[float] | None = None) -> torch.Tensor:
    """The next token `[B]` of each row of logits `[B, V]`.

    Args:
        draws: a number from 0 up to 1 for each row, unless `sampling` is greedy.
    """
    if sampling.temperature == 0 or draws is None:
        return logits.argmax(-1)
    ordered, tokens = (logits.float() / sampling.temperature).sort(dim=-1, descending=True, stable=True)
    probabilities = likeliest(ordered.softmax(-1), sampling)
    places = torch.tensor(draws, device=logits.device, dtype=probabilities.dtype)[:, None]
    sums = probabilities.cumsum(-1)
    picked = torch.searchsorted(sums, places * sums[:, -1:], right=True)
    # A draw close to 1 may round to the sum itself, behind the last token that may be drawn.
    last = (probabilities > 0).sum(-1, keepdim=True) - 1
    drawn: torch.Tensor = tokens.gather(-1, picked.minimum(last))[:, 0]
    return drawn


def likeliest(probabilities: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Probabilities `[B, V]`, largest first, with 0 for what `top_k`, then `top_p`, then `min_p` leave out.

    >>> likeliest(torch.tensor([[0.5, 0.3, 0.2]]), Sampling(1, 1.0, top_p=0.6)).tolist()
    [[0.5, 0.30000001192092896, 0.0]]
    """
    kept = probabilities
    if sampling.top_k:
        kept = kept * (torch.arange(kept.shape[-1], device=kept.device) < sampling.top_k)
    if sampling.top_p < 1:
        share = kept / kept.sum(-1, keepdim=True)
        kept = kept * (share.cumsum(-1) - share < sampling.top_p)
    if sampling.min_p > 0:
        kept = kept * (kept >= sampling.min_p * kept[:, :1])
    return kept
