"""Tasks that read probabilities and write nothing: recall, preference, loss, loss by place."""

from collections import defaultdict
from typing import Any

import torch

from apo_soup.data.char_to_token import token_ranges
from apo_soup.data.conversation import conversation, pair, template_kwargs
from apo_soup.data.encode import encode_pair
from apo_soup.evals.checkpoint import Checkpoint
from apo_soup.evals.metrics import Metric, hit_metric, item_metric
from apo_soup.evals.suite import Task
from apo_soup.models.logprobs import completion_logprobs, shared_logprobs
from apo_soup.models.tokenizer import encode
from apo_soup.statistics import mean, ratio

Row = dict[str, Any]
Outcome = tuple[dict[str, Metric], list[dict[str, Any]]]


def context_of(row: Row) -> str:
    """The text that a row of `recall` asks about, which others may ask about too."""
    return f"{row['group']} {row['context']}"


def recall(checkpoint: Checkpoint, task: Task, rows: list[Row]) -> Outcome:
    """Whether greedy decoding gives the answer behind the row's prefix, by length (`group`) and by depth in it.

    Rows with the same `context` ask about one text. Their outcomes belong together, so such a text is one item, with
    the share that is found as its outcome.
    """
    items = []
    texts: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        prompt = checkpoint.renderer.prompt(row["messages"], template_kwargs(row, {})) + row["prefix"]
        items.append((checkpoint.ids(prompt), checkpoint.ids(row["answer"])))
        texts[context_of(row) if "context" in row else f"row {number}"].append(number)
    alone = [numbers[0] for numbers in texts.values() if len(numbers) == 1]
    found = completion_logprobs(checkpoint.model, [items[n] for n in alone], checkpoint.tokens_per_batch)
    hits = {n: greedy for n, (_, _, greedy) in zip(alone, found, strict=True)}
    by_length: dict[str, list[float]] = defaultdict(list)
    for numbers in texts.values():
        if len(numbers) > 1:
            found = shared_logprobs(checkpoint.model, [items[n] for n in numbers], checkpoint.tokens_per_batch)
            hits |= {n: greedy for n, (_, _, greedy) in zip(numbers, found, strict=True)}
        by_length[f"{rows[numbers[0]]['group']}"].append(sum(hits[n] for n in numbers) / len(numbers))
    by_depth: dict[str, list[bool]] = defaultdict(list)
    for number, row in enumerate(rows):
        by_depth[f"{row['group']}@{row['depth']}"].append(hits[number])
    metrics = {f"{task.name}/{group}": item_metric(shares, headline=True) for group, shares in by_length.items()}
    return metrics | {f"{task.name}/{place}": hit_metric(found) for place, found in by_depth.items()}, []


def preference(checkpoint: Checkpoint, task: Task, rows: list[Row]) -> Outcome:
    """Share of pairs whose chosen side is more likely than the rejected one, and the mean margin in nats."""
    items = []
    for row in rows:
        encoded = encode_pair(pair(row, {}), checkpoint.renderer, checkpoint.tokenizer)
        items += [(encoded["prompt_ids"], encoded[side]) for side in ("chosen_ids", "rejected_ids")]
    scores = [s for s, _, _ in completion_logprobs(checkpoint.model, items, checkpoint.tokens_per_batch)]
    margins = [chosen - rejected for chosen, rejected in zip(scores[::2], scores[1::2], strict=True)]
    return {
        task.name: hit_metric([margin > 0 for margin in margins], headline=True),
        f"{task.name}/margin": Metric(mean(margins), margins),
    }, []


@torch.inference_mode()
def token_losses(checkpoint: Checkpoint, ids: list[int]) -> torch.Tensor:
    """Negative log-likelihood in nats of every token of `ids` [S] but the first: [S - 1]."""
    batch = torch.tensor([ids], device=checkpoint.model.device)
    logits = checkpoint.model(input_ids=batch, use_cache=False).logits[0, :-1]
    # By pieces: log-probabilities of a long window in float32 would take vocabulary x length x 4 bytes at once.
    pieces = [
        -part.float().log_softmax(-1).gather(1, target[:, None])[:, 0]
        for part, target in zip(logits.split(1024), batch[0, 1:].split(1024), strict=True)
    ]
    return torch.cat(pieces).cpu() if pieces else torch.zeros(0)


def loss(checkpoint: Checkpoint, task: Task, rows: list[Row]) -> Outcome:
    """Mean negative log-likelihood, in nats a token, of what the assistant says in held-out conversations."""
    sums: dict[str, list[float]] = defaultdict(list)
    counts: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        item = conversation(row, {})
        rendered = checkpoint.renderer.conversation(item)
        encoding = encode(checkpoint.tokenizer, [rendered.text])[0]
        losses = token_losses(checkpoint, encoding.ids)
        parts = [losses[max(0, a - 1) : b - 1] for a, b in token_ranges(encoding.offsets, rendered.spans)]
        for name in (task.name, f"{task.name}/{item.mode}"):
            sums[name].append(sum(p.sum().item() for p in parts))
            counts[name].append(sum(len(p) for p in parts))
    metrics = {}
    for name in sums:
        score, shares = ratio(sums[name], counts[name])
        metrics[name] = Metric(score, shares, better="lower", headline=name == task.name)
    return metrics, []


def edges(length: int) -> list[int]:
    """Ends of the places that are told apart: powers of two from 64, and the whole window."""
    found = [64]
    while found[-1] * 2 < length:
        found.append(found[-1] * 2)
    return [e for e in found if e < length] + [length]


def context_loss(checkpoint: Checkpoint, task: Task, rows: list[Row]) -> Outcome:
    """Loss of plain text by place in a window: how well a model uses the context before it, to the longest.

    The rows' texts are joined into windows of `length` tokens; the last one that is not full is left out, and so is
    every row but the first of those with the same `context`. Each metric
    `NAME/END` covers the places up to END from the end before it.
    """
    ids: list[int] = []
    windows = []
    seen: set[str] = set()
    for row in rows:
        if "context" in row:
            if context_of(row) in seen:
                continue
            seen.add(context_of(row))
        text = row.get("text") or "\n".join(m["content"] for m in row["messages"])
        ids += checkpoint.ids(text)
        while len(ids) >= task.length:
            windows.append(ids[: task.length])
            ids = ids[task.length :]
    if not windows:
        raise ValueError(f"its {len(rows)} rows together are shorter than one window of {task.length} tokens")
    ends = edges(task.length)
    means: dict[int, list[float]] = defaultdict(list)
    for window in windows:
        losses = token_losses(checkpoint, window)
        for before, end in zip([1, *ends], ends, strict=False):
            means[end].append(losses[before - 1 : end - 1].mean().item())
    return {f"{task.name}/{end}": Metric(mean(values), values, better="lower") for end, values in means.items()}, []
