"""Tasks that read probabilities and generate nothing: recall, preference, loss, loss by position."""

from collections import defaultdict
from functools import partial

import torch

from apo_soup.config.eval import ContextLossTask, LossTask, PreferenceTask, RecallTask
from apo_soup.data.char_to_token import token_ranges
from apo_soup.data.conversations.conversation import parse_conversation
from apo_soup.data.conversations.pair import parse_pair
from apo_soup.data.conversations.row_arguments import template_kwargs
from apo_soup.data.conversations.turn_order import check_order
from apo_soup.data.encode_pairs import encode_pair
from apo_soup.data.sources.rows import RowError
from apo_soup.evals.checkpoint import Checkpoint
from apo_soup.evals.metrics import ItemRow, Metric, TaskResult, mean_metric, proportion_metric
from apo_soup.models.half_threads import on_half_threads
from apo_soup.models.logprobs import shared_logprobs
from apo_soup.models.positions import forget_longest_text, rope_by_length
from apo_soup.models.tokenizer import encode, encode_ids
from apo_soup.statistics import mean_score, ratio_score

FIRST_BUCKET_END = 64
# Positions whose log-probabilities are computed at once: float32, vocabulary x 4 bytes each.
LOGITS_AT_ONCE = 1024


def context_key(row: ItemRow) -> str:
    """What names the text that a row of `recall` asks about, which others may ask about too."""
    return f"{row['group']} {row['context']}"


def recall_task(checkpoint: Checkpoint, task: RecallTask, rows: list[ItemRow]) -> TaskResult:
    """Whether greedy decoding gives the answer behind the row's prefix, by length (`group`) and by depth in it.

    Rows with the same `context` ask about one text. Their outcomes belong together, so such a text is one item, with
    the proportion that is found as its outcome.

    Raises:
        RowError: a field is missing, or the template refuses a row.
    """
    texts_of_rows: list[str] = []
    rows_of_text: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        prompt = checkpoint.renderer.prompt(row["messages"], template_kwargs(row, {})) + row["prefix"]
        texts_of_rows += [prompt, str(row["answer"])]
        rows_of_text[context_key(row) if "context" in row else f"row {number}"].append(number)
    ids = [list(encoding.ids) for encoding in encode_ids(checkpoint.tokenizer, texts_of_rows)]
    items = list(zip(ids[::2], ids[1::2], strict=True))
    texts = list(rows_of_text.values())
    groups, progress = [[items[n] for n in t] for t in texts], checkpoint.progress
    progress.count(len(groups), "texts")
    scores = shared_logprobs(checkpoint.model, groups, checkpoint.tokens_per_batch, progress.at)
    hits = {n: s.greedy for t, of_text in zip(texts, scores, strict=True) for n, s in zip(t, of_text, strict=True)}
    by_length: dict[str, list[float]] = defaultdict(list)
    for numbers in texts:
        by_length[f"{rows[numbers[0]]['group']}"].append(sum(hits[n] for n in numbers) / len(numbers))
    by_depth: dict[str, list[bool]] = defaultdict(list)
    for number, row in enumerate(rows):
        by_depth[f"{row['group']}@{row['depth']}"].append(hits[number])
    metrics = {f"{task.name}/{length}": mean_metric(parts, headline=True) for length, parts in by_length.items()}
    return TaskResult(metrics | {f"{task.name}/{depth}": proportion_metric(hits) for depth, hits in by_depth.items()})


def preference_task(checkpoint: Checkpoint, task: PreferenceTask, rows: list[ItemRow]) -> TaskResult:
    """Proportion of pairs whose chosen answer is more likely than the rejected one, and the mean margin in nats.

    Raises:
        RowError: a row is no pair.
    """
    items = []
    for row in rows:
        pair = parse_pair(row, {})
        if pair.unusual_order:
            check_order(pair.in_order, pair.kwargs, checkpoint.renderer.render)
        encoded = encode_pair(pair, checkpoint.renderer, checkpoint.tokenizer)
        items.append([(encoded["prompt_ids"], encoded[side]) for side in ("chosen_ids", "rejected_ids")])
    checkpoint.progress.count(len(items), "pairs")
    scores = shared_logprobs(checkpoint.model, items, checkpoint.tokens_per_batch, checkpoint.progress.at)
    margins = [chosen.logprob - rejected.logprob for chosen, rejected in scores]
    return TaskResult(
        {
            task.name: proportion_metric([margin > 0 for margin in margins], headline=True),
            f"{task.name}/margin": Metric(mean_score(margins), margins),
        }
    )


@torch.inference_mode()
def token_losses(checkpoint: Checkpoint, ids: list[int]) -> torch.Tensor:
    """Negative log-likelihood in nats of every token of `ids` [S] but the first: [S - 1], on the CPU."""
    if rope_by_length(checkpoint.model.config.get_text_config()):
        forget_longest_text(checkpoint.model)
    batch = torch.tensor([ids], device=checkpoint.model.device)
    logits: torch.Tensor = checkpoint.model(input_ids=batch, use_cache=False).logits[0, :-1]
    pieces = [
        -part.float().log_softmax(-1).gather(1, target[:, None])[:, 0]
        for part, target in zip(
            torch.split(logits, LOGITS_AT_ONCE), torch.split(batch[0, 1:], LOGITS_AT_ONCE), strict=True
        )
    ]
    return torch.cat(pieces).cpu() if pieces else torch.zeros(0)


def loss_task(checkpoint: Checkpoint, task: LossTask, rows: list[ItemRow]) -> TaskResult:
    """Mean negative log-likelihood, in nats a token, of what the assistant says in held-out conversations.

    Raises:
        RowError: a row is no conversation, or its trained spans cannot be found.
    """
    sums: dict[str, list[float]] = defaultdict(list)
    counts: dict[str, list[int]] = defaultdict(list)
    checkpoint.progress.count(len(rows), "rows")
    for number, row in enumerate(rows):
        checkpoint.progress.at(number)
        item = parse_conversation(row, {})
        if item.unusual_order:
            check_order(item.in_order, item.kwargs, checkpoint.renderer.render)
        rendered = checkpoint.renderer.conversation(item)
        encoding = encode(checkpoint.tokenizer, [rendered.text])[0]
        losses = token_losses(checkpoint, encoding.ids)
        parts = [losses[max(0, a - 1) : b - 1] for a, b in token_ranges(encoding.offsets, rendered.spans)]
        for name in (task.name, f"{task.name}/{item.mode}"):
            sums[name].append(sum(p.sum().item() for p in parts))
            counts[name].append(sum(len(p) for p in parts))
    metrics = {}
    for name in sums:
        score, shares = ratio_score(sums[name], counts[name])
        metrics[name] = Metric(score, shares, better="lower", headline=name == task.name)
    return TaskResult(metrics)


def position_bucket_ends(length: int) -> list[int]:
    """Ends of the buckets of positions in a window of `length` tokens: powers of two from 64, and the whole window."""
    ends = [FIRST_BUCKET_END]
    while ends[-1] * 2 < length:
        ends.append(ends[-1] * 2)
    return [e for e in ends if e < length] + [length]


def context_loss_task(checkpoint: Checkpoint, task: ContextLossTask, rows: list[ItemRow]) -> TaskResult:
    """Loss of plain text by position in a window: how well a model uses the context before it, to the longest.

    The rows' texts are joined into windows of `length` tokens; the last one that is not full is left out, and so is
    every row but the first of those with the same `context`. Each metric `NAME/END` covers the positions up to END
    from the end before it.

    Raises:
        RowError: a field is missing, or all rows together do not fill one window.
    """
    ids: list[int] = []
    windows = []
    seen: set[str] = set()
    for row in rows:
        if "context" in row:
            if context_key(row) in seen:
                continue
            seen.add(context_key(row))
        text = row.get("text") or "\n".join(ItemRow(m)["content"] for m in row["messages"])
        ids += checkpoint.ids(text)
        while len(ids) >= task.length:
            windows.append(ids[: task.length])
            ids = ids[task.length :]
    if not windows:
        raise RowError(
            f"length: expected at least one window of {task.length} tokens, got {len(ids)} tokens in {len(rows)} rows; "
            "give a shorter length or more rows"
        )
    ends = position_bucket_ends(task.length)
    means: dict[int, list[float]] = defaultdict(list)
    by_length = rope_by_length(checkpoint.model.config.get_text_config())
    score = partial(token_losses, checkpoint)
    checkpoint.progress.count(len(windows), "windows")
    for number, losses in enumerate(on_half_threads(score, windows, checkpoint.model.device, together=not by_length)):
        checkpoint.progress.at(number)
        for before, end in zip([1, *ends], ends, strict=False):
            means[end].append(losses[before - 1 : end - 1].mean().item())
    return TaskResult(
        {f"{task.name}/{end}": Metric(mean_score(values), values, better="lower") for end, values in means.items()}
    )
