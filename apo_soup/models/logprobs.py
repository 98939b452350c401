"""Log-probabilities of given tokens under a model, in batches of bounded size."""

from collections.abc import Callable, Iterator, Sequence
from itertools import takewhile
from typing import NamedTuple

import torch
from transformers import PreTrainedModel

from apo_soup.models.growing_cache import growing_cache
from apo_soup.models.half_threads import on_half_threads
from apo_soup.models.positions import forget_longest_text, rope_by_length
from apo_soup.private import attention_implementation

# A longer row is computed alone, its shared beginning by causal attention, which skips what no position sees.
LONGEST_DENSE_MASK = 512
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
    positions pass through the LM head. Items of several lengths are never together where a model turns its positions by
    the longest of a batch.
    """
    by_length = rope_by_length(model.config.get_text_config()) is not None
    batches = list(_batches_of_items(items, tokens_per_batch, by_length))

    def scored(batch: list[int]) -> list[CompletionScore]:
        if by_length:
            forget_longest_text(model)
        ids = padded([items[i][0] + items[i][1] for i in batch])
        # The logits that predict the earliest completion token of the batch, and all behind it.
        first = min(len(items[i][0]) for i in batch) - 1
        # Padding stands behind every item, where causal attention does not look, so it needs no mask; a mask would keep
        # the model off its quickest attention.
        logits = model(input_ids=ids.to(model.device), use_cache=False, logits_to_keep=ids.shape[1] - first).logits
        return [completion_score(logits[row], len(items[i][0]) - 1 - first, items[i][1]) for row, i in enumerate(batch)]

    found = on_half_threads(scored, batches, model.device, together=not by_length)
    results = {i: s for batch, scores in zip(batches, found, strict=True) for i, s in zip(batch, scores, strict=True)}
    return [results[index] for index in range(len(items))]


def _batches_of_items(items: list[ScoredItem], tokens_per_batch: int, by_length: bool) -> Iterator[list[int]]:
    """Numbers of items of ascending lengths in batches of so many padded positions; `by_length`, of one length each."""
    order = sorted(range(len(items)), key=lambda i: len(items[i][0]) + len(items[i][1]))
    start = 0
    while start < len(order):
        stop = start + 1
        shortest = sum(map(len, items[order[start]]))
        while stop < len(order):
            length = sum(map(len, items[order[stop]]))
            if (stop + 1 - start) * length > tokens_per_batch or (by_length and length != shortest):
                break
            stop += 1
        yield order[start:stop]
        start = stop


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
def shared_logprobs(
    model: PreTrainedModel,
    groups: list[list[ScoredItem]],
    tokens_per_batch: int,
    progress: Callable[[int], None] | None = None,
) -> list[list[CompletionScore]]:
    """As `completion_logprobs`, of groups whose prompts begin alike, such as both answers to a question or questions
    about one long text: what a group shares is computed once. The scores are in the groups' order and their items'.

    Where a model's attention takes no mask of our own, and where what items have of their own is long, each is computed
    by itself.

    Args:
        progress: called with the number of groups that are done, as they are.
    """
    rows = [branched_row(group) for group in groups]
    if growing_cache(model) is None or attention_implementation(model.config) != "sdpa":
        alone = list(range(len(groups)))
    else:
        most_own = min(LONGEST_DENSE_MASK, tokens_per_batch)
        alone = [n for n, row in enumerate(rows) if len(row.ids) - row.shared > most_own]
    flat = iter(completion_logprobs(model, [item for n in alone for item in groups[n]], tokens_per_batch))
    results = {n: [next(flat) for _ in groups[n]] for n in alone}
    together = sorted(set(range(len(groups))).difference(alone), key=lambda n: len(rows[n].ids))
    lengths = [len(rows[n].ids) for n in together]
    batches = [together[batch.start : batch.stop] for batch in _batches(lengths, tokens_per_batch)]

    def scored(numbers: list[int]) -> list[list[CompletionScore]]:
        return _scores_of_rows(model, [rows[n] for n in numbers], [groups[n] for n in numbers])

    for numbers, scores in zip(batches, on_half_threads(scored, batches, model.device), strict=True):
        results.update(zip(numbers, scores, strict=True))
        if progress:
            progress(len(results))
    return [results[number] for number in range(len(groups))]


def _batches(lengths: list[int], tokens_per_batch: int) -> Iterator[range]:
    """Rows of ascending lengths in batches of so many padded positions; a row too long for a dense mask is alone."""
    start = 0
    for number, length in enumerate([*lengths, 0]):
        ends = number == len(lengths) or length > LONGEST_DENSE_MASK or (number + 1 - start) * length > tokens_per_batch
        if ends and number > start:
            yield range(start, number)
            start = number


class BranchedRow(NamedTuple):
    """Items that begin alike in one row: the `shared` beginning, and behind it what is each item's own.

    `ids`, `positions` and `branches` have an entry a token; the beginning is branch 0, an item's own tokens are its
    number from 1. `firsts` are the places of the tokens that predict the first token of each completion.
    """

    ids: list[int]
    positions: list[int]
    branches: list[int]
    shared: int
    firsts: list[int]


def branched_row(items: list[ScoredItem]) -> BranchedRow:
    """The row of some items.

    >>> row = branched_row([([5, 6, 7], [8]), ([5, 6, 9], [1, 2])])
    >>> row.ids, row.positions, row.branches
    ([5, 6, 7, 8, 9, 1, 2], [0, 1, 2, 3, 2, 3, 4], [0, 0, 1, 1, 2, 2, 2])
    >>> row.shared, row.firsts
    (2, [2, 4])
    """
    shared = common_length([prompt[:-1] for prompt, _ in items])  # a prompt's last token predicts the answer
    ids, positions, branches = items[0][0][:shared], list(range(shared)), [0] * shared
    firsts = []
    for number, (prompt, completion) in enumerate(items, 1):
        own = prompt[shared:] + completion
        firsts.append(len(ids) + len(prompt) - shared - 1)
        ids = ids + own
        positions += range(shared, shared + len(own))
        branches += [number] * len(own)
    return BranchedRow(ids, positions, branches, shared, firsts)


def common_length(rows: Sequence[list[int]]) -> int:
    """How many tokens all rows begin with in common.

    >>> common_length([[1, 2, 3], [1, 2, 4], [1, 2]])
    2
    """
    columns = zip(*rows, strict=False)
    return sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, columns))


def branch_mask(branches: torch.Tensor, first: int = 0) -> torch.Tensor:
    """What the positions of rows `[B, S]` from `first` on attend to, `[B, 1, S - first, S]`: what stands before them in
    their own branch and in the beginning. Padding, branch -1 and at the end of a row, is a branch of its own.
    """
    size = branches.shape[1]
    earlier = torch.ones(size - first, size, dtype=torch.bool, device=branches.device).tril(first)
    seen = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, first:, None])
    return (seen & earlier)[:, None]


def _scores_of_rows(
    model: PreTrainedModel, rows: list[BranchedRow], groups: list[list[ScoredItem]]
) -> list[list[CompletionScore]]:
    """The scores of rows that are computed together; a long row alone, its beginning by causal attention."""
    device = model.device
    ids, positions = padded([row.ids for row in rows]).to(device), padded([row.positions for row in rows]).to(device)
    branches = padded([[b + 1 for b in row.branches] for row in rows]).to(device) - 1
    keep = sorted(
        {
            place
            for row, group in zip(rows, groups, strict=True)
            for first, (_, completion) in zip(row.firsts, group, strict=True)
            for place in range(first, first + len(completion))
        }
    )
    column = {place: number for number, place in enumerate(keep)}
    cut = rows[0].shared if len(rows) == 1 and len(rows[0].ids) > LONGEST_DENSE_MASK else 0
    cache = growing_cache(model) if cut else None
    if cache is not None:
        with cache.reading():
            model(input_ids=ids[:, :cut], past_key_values=cache, use_cache=True)
    logits = model(
        input_ids=ids[:, cut:],
        position_ids=positions[:, cut:],
        attention_mask=branch_mask(branches, cut),
        past_key_values=cache,
        use_cache=cache is not None,
        logits_to_keep=torch.tensor([place - cut for place in keep], device=device),
    ).logits
    return [
        [
            completion_score(logits[number], column[first], completion)
            for first, (_, completion) in zip(row.firsts, group, strict=True)
        ]
        for number, (row, group) in enumerate(zip(rows, groups, strict=True))
    ]
