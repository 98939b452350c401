"""Tasks that read probabilities and generate nothing: recall, preference, loss, loss by position."""

from collections import defaultdict

from apo_soup.config.eval import ContextLossTask, LossTask, PreferenceTask, RecallTask
from apo_soup.data.char_to_token import own_offsets, taking_space, token_ranges
from apo_soup.data.conversations.row_arguments import template_kwargs
from apo_soup.data.encode_pairs import encode_pair
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.data.sources.rows import RowError
from apo_soup.evals.as_trained import as_trained_conversation, as_trained_pair
from apo_soup.evals.checkpoint import Checkpoint
from apo_soup.evals.metrics import ItemRow, Metric, TaskResult, mean_metric, proportion_metric
from apo_soup.models.tokenizer import encode, encode_ids
from apo_soup.statistics import mean_score, ratio_score


def template_of(checkpoint: Checkpoint) -> Renderer:
    """What renders texts as the model has them."""
    assert checkpoint.template is not None  # the suite's check has looked
    return checkpoint.template


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
        prompt = template_of(checkpoint).prompt(row["messages"], template_kwargs(row, {})) + row["prefix"]
        texts_of_rows += [prompt, str(row["answer"])]
        rows_of_text[context_key(row) if "context" in row else f"row {number}"].append(number)
    ids = [list(encoding.ids) for encoding in encode_ids(checkpoint.tokenizer, texts_of_rows)]
    items = list(zip(ids[::2], ids[1::2], strict=True))
    texts = list(rows_of_text.values())
    groups, progress = [[items[n] for n in t] for t in texts], checkpoint.progress
    progress.count(len(groups), "texts")
    scores = checkpoint.scorer.completions(groups, progress.at)
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
    items, template = [], template_of(checkpoint)
    for row in rows:
        encoded = encode_pair(as_trained_pair(row, template), template, checkpoint.tokenizer)
        items.append([(encoded["prompt_ids"], encoded[side]) for side in ("chosen_ids", "rejected_ids")])
    checkpoint.progress.count(len(items), "pairs")
    scores = checkpoint.scorer.completions(items, checkpoint.progress.at)
    margins = [chosen.logprob - rejected.logprob for chosen, rejected in scores]
    return TaskResult(
        {
            task.name: proportion_metric([margin > 0 for margin in margins], headline=True),
            f"{task.name}/margin": Metric(mean_score(margins), margins),
        }
    )


def loss_task(checkpoint: Checkpoint, task: LossTask, rows: list[ItemRow]) -> TaskResult:
    """Mean negative log-likelihood, in nats a token, of what the assistant says in held-out conversations.

    Raises:
        RowError: a row is no conversation, or its trained spans cannot be found.
    """
    sums: dict[str, list[float]] = defaultdict(list)
    counts: dict[str, list[int]] = defaultdict(list)
    checkpoint.progress.count(len(rows), "rows")
    texts, template = [], template_of(checkpoint)
    for row in rows:
        item = as_trained_conversation(row, template)
        rendered = template.conversation(item)
        encoding = encode(checkpoint.tokenizer, [rendered.text])[0]
        offsets = own_offsets(rendered.text, encoding.ids, encoding.offsets, taking_space(checkpoint.tokenizer))
        texts.append((item.mode, list(encoding.ids), token_ranges(offsets, rendered.spans)))
    scores = checkpoint.scorer.losses([ids for _, ids, _ in texts])
    for number, ((mode, _, ranges), losses) in enumerate(zip(texts, scores, strict=True)):
        checkpoint.progress.at(number)
        parts = [losses[max(0, a - 1) : b - 1] for a, b in ranges]
        for name in (task.name, f"{task.name}/{mode}"):
            sums[name].append(sum(p.sum().item() for p in parts))
            counts[name].append(sum(len(p) for p in parts))
    metrics = {}
    for name in sums:
        score, shares = ratio_score(sums[name], counts[name])
        metrics[name] = Metric(score, shares, better="lower", headline=name == task.name)
    return TaskResult(metrics)


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
    ends = task.bucket_ends()
    means: dict[int, list[float]] = defaultdict(list)
    checkpoint.progress.count(len(windows), "windows")
    for number, losses in enumerate(checkpoint.scorer.losses(windows, abreast=True)):
        checkpoint.progress.at(number)
        for before, end in zip([1, *ends], ends, strict=False):
            means[end].append(losses[before - 1 : end - 1].mean().item())
    return TaskResult(
        {f"{task.name}/{end}": Metric(mean_score(values), values, better="lower") for end, values in means.items()}
    )
