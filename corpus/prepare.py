"""Rows to a folder of training sequences that `datasets.load_from_disk` opens.

Read every source, keep its weighted share, render, tokenise, mask, pass the gate, pack, write. The folder is keyed by
content (rows, options, template, tokenizer, this code), so unchanged content is found again and changed content never
is. Rows that cannot be used go to `rejects.jsonl` with the reason; `stats.json` counts everything that was read.
"""

import json
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict, Features, List, Value, load_from_disk
from filelock import FileLock
from transformers import PreTrainedTokenizerBase

from corpus import packing
from corpus.conversation import Conversation, Pair, conversation, pair
from corpus.gate import ROWS_PER_SOURCE, Sample, check_samples
from corpus.mask import Rendered, Renderer, token_mask
from corpus.rows import Row, RowError, Source, read, sample
from corpus.tokenizer import encode, recipe_tokenizer, tokenizer_text
from pipeline.errors import UserError
from pipeline.hashing import hash_value
from pipeline.inputs import code_hash, rows_hash
from pipeline.recipe import Recipe
from pipeline.stage import replace_folder, write_json
from pipeline.table import text_table

BATCH = 512
IGNORED = -100


@dataclass(frozen=True)
class Document:
    """One tokenised row: ids and labels of equal length, label -100 where nothing is trained."""

    input_ids: list[int]
    labels: list[int]


@dataclass
class Counts:
    """What became of one source's rows in one mode. Tokens are counted before packing."""

    source: str
    mode: str
    kept: int = 0
    rejected: int = 0
    not_drawn: int = 0
    tokens: int = 0
    trained: int = 0
    cut: int = 0
    lengths: list[int] = field(default_factory=list)

    def as_row(self) -> dict[str, Any]:
        lengths = sorted(self.lengths)
        row = {k: v for k, v in asdict(self).items() if k != "lengths"}
        row["read"] = self.kept + self.rejected + self.not_drawn
        row["mean_length"] = round(sum(lengths) / len(lengths), 1) if lengths else 0
        row["p95_length"] = lengths[int(0.95 * (len(lengths) - 1))] if lengths else 0
        return row


class Tally:
    """Counts by source and mode, the rejects, and the template arguments met in a preparation."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], Counts] = {}
        self.rejects: list[dict[str, str]] = []
        self.read: Counter[str] = Counter()
        self.arguments: set[str] = set()

    def of(self, source: str, mode: str) -> Counts:
        return self.counts.setdefault((source, mode), Counts(source, mode))

    def reject(self, source: str, place: str, reason: str, times: int = 1) -> None:
        self.of(source, "-").rejected += times
        self.rejects.append({"source": source, "row": place, "reason": reason})

    def table(self) -> list[dict[str, Any]]:
        return [self.counts[key].as_row() for key in sorted(self.counts)]

    def check(self, share: float, where: str) -> None:
        """Every row read is kept, rejected or not drawn, and not too many were rejected. Raises UserError."""
        kept, rejected = (sum(getattr(c, n) for c in self.counts.values()) for n in ("kept", "rejected"))
        total = sum(self.read.values())
        if kept + rejected != total:
            raise AssertionError(f"rows lost in preparation: {total} drawn, {kept} kept, {rejected} rejected")
        if rejected > share * total:
            first = self.rejects[0]
            raise UserError(
                f"{where}: {rejected} of {total} rows cannot be used, more than max_reject_share {share}; "
                f"the first is {first['row']}: {first['reason']}"
            )
        if kept == 0:
            raise UserError(f"{where}: no usable row in any source")


def prepared_folder(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> Path:
    """Where the prepared data of this recipe lies: beside the run's stages, named by content."""
    values = recipe.values
    mixture = values["dataset_mixture"]
    rows = [
        rows_hash(s["id"], recipe.where(f"dataset_mixture.datasets.{n}.id"), s.get("revision"))
        for n, s in enumerate(mixture["datasets"])
    ]
    content = {
        "rows": rows,
        "mixture": {**mixture, "datasets": [{k: v for k, v in s.items() if k != "id"} for s in mixture["datasets"]]},
        "options": {k: values.get(k) for k in OPTIONS},
        "template": tokenizer.get_chat_template(),
        "tokenizer": tokenizer_text(tokenizer),
        "pairs": recipe.stage == "apo",
        "code": code_hash("corpus"),
    }
    output = Path(recipe.need("output_dir"))
    if recipe.member is not None:
        output = output.parent
    return output.parent / "prepared" / f"{output.name}-{hash_value(content)[:16]}"


OPTIONS = ("max_length", "packing", "packing_strategy", "assistant_only_loss", "completion_only_loss")
OPTIONS += ("chat_template_kwargs", "eos_token")


def prepare(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, say: Callable[[str], None] = print) -> Path:
    """The prepared folder of a recipe, made now if its content is not there yet; safe for many processes at once.

    Raises:
        UserError: too many rejected rows, a source that fails the gate, or nothing left to train on.
    """
    folder = prepared_folder(recipe, tokenizer)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.parent / f".{folder.name}.lock"):
        if (folder / "stats.json").is_file():
            say(f"prepared rows found in {folder}")
            return folder
        started = time.monotonic()
        partial = folder.parent / f".{folder.name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        tally = Tally()
        try:
            splits = _pairs(recipe, tokenizer, tally) if recipe.stage == "apo" else _sequences(recipe, tokenizer, tally)
            tally.check(recipe.values.get("max_reject_share", 0.01), str(recipe.path))
        finally:
            if tally.rejects:
                rejects = folder.parent / f"{folder.name.rpartition('-')[0]}-rejects.jsonl"
                rejects.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in tally.rejects))
                say(f"{len(tally.rejects)} rejected rows, with reasons, in {rejects}")
        unread = Renderer(tokenizer).unread(tally.arguments)
        if unread:
            say(f"note: the chat template does not read the template arguments {', '.join(sorted(unread))}")
        DatasetDict(splits).save_to_disk(str(partial))
        write_json(partial / "stats.json", {"seconds": round(time.monotonic() - started, 2), "sources": tally.table()})
        if tally.rejects:
            shutil.copy(rejects, partial / "rejects.jsonl")
        replace_folder(partial, folder)
    return folder


@dataclass(frozen=True)
class TrainingRows:
    """What a training stage needs of its rows: tokenizer with the template on it, splits, counts by source."""

    tokenizer: PreTrainedTokenizerBase
    splits: DatasetDict
    sources: list[dict[str, Any]]


def training_rows(recipe: Recipe, say: Callable[[str], None] = print) -> TrainingRows:
    """Load the recipe's tokenizer, prepare its rows if they are not there yet, and open them memory-mapped."""
    tokenizer = recipe_tokenizer(recipe)
    folder = prepare(recipe, tokenizer, say)
    sources = json.loads((folder / "stats.json").read_text())["sources"]
    return TrainingRows(tokenizer, load_from_disk(str(folder)), sources)


def drawn_rows(recipe: Recipe, tally: Tally) -> Iterator[tuple[Source, Row]]:
    """The rows that the weights draw, source by source."""
    mixture = recipe.values["dataset_mixture"]
    for number, entry in enumerate(mixture["datasets"]):
        source = Source.from_entry(entry)
        place = f"dataset_mixture.datasets.{number}"
        rows = list(read(source, recipe.where(f"{place}.id")))
        for column in source.columns or ():
            if rows and not any(column in (row.content or {}) for row in rows):
                raise UserError(f"{recipe.where(f'{place}.columns')}: no row of {source.name} has a column {column}")
        kept = sample(len(rows), source.weight, mixture.get("seed", 0), source.name)
        tally.of(source.name, "-").not_drawn += max(0, len(rows) - len(set(kept)))
        tally.read[source.name] += len(kept)
        for index in kept:
            yield source, rows[index].only(source.columns)


def batched(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def split_off(count: int, share: float | None, seed: int) -> tuple[list[int], list[int]]:
    """Seeded train and test indices; `share` of the documents, at least one, goes to test when it is given."""
    order = list(range(count))
    random.Random(f"{seed} order").shuffle(order)
    held = max(1, round(share * count)) if share else 0
    return order[held:], order[:held]


def _sequences(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, tally: Tally) -> dict[str, Dataset]:
    """Supervised rows as packed sequences, with `seq_lengths` for the documents in each."""
    values = recipe.values
    documents = _documents(recipe, tokenizer, tally)
    mixture = values["dataset_mixture"]
    train, test = split_off(len(documents), mixture.get("test_split_size"), mixture.get("seed", 0))
    splits = {"train": train, "test": test} if test else {"train": train}
    features = Features({n: List(Value("int32")) for n in ("input_ids", "labels", "seq_lengths")})
    return {
        name: Dataset.from_list(list(_pack([documents[i] for i in chosen], values)), features=features)
        for name, chosen in splits.items()
    }


def _documents(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, tally: Tally) -> list[Document]:
    values = recipe.values
    renderer = Renderer(tokenizer)
    limit = _document_limit(values)
    defaults = values.get("chat_template_kwargs") or {}
    documents: list[Document] = []
    gate: Counter[str] = Counter()
    for batch in batched(drawn_rows(recipe, tally), BATCH):
        rendered = []
        for source, row in batch:
            try:
                item = conversation(row.fields, defaults)
                tally.arguments.update(item.kwargs)
                rendered.append((source, row, item, renderer.conversation(item)))
            except RowError as error:
                tally.reject(source.name, row.place, str(error))
        encodings = encode(tokenizer, [r[3].text for r in rendered])
        for (source, row, item, text), encoding in zip(rendered, encodings, strict=True):
            spans = trained_spans(values, item, text)
            mask = token_mask(encoding.offsets, spans)
            if gate[source.name] < ROWS_PER_SOURCE:
                gate[source.name] += 1
                trained = _trained_text(text.text, spans, encoding.offsets, mask)
                whole = spans == [(0, len(text.text))]
                check_samples([Sample(source.name, row.place, item, text, trained)], tokenizer.eos_token, whole)
            ids, mask = encoding.ids[:limit], mask[:limit]
            cut = len(encoding.ids) - len(ids)
            if not any(mask):
                tally.reject(source.name, row.place, f"no trained token among the first {limit} tokens")
                continue
            counts = tally.of(source.name, "think" if item.thinks else "no_think")
            counts.kept += 1
            counts.tokens += len(ids)
            counts.trained += sum(mask)
            counts.cut += cut
            counts.lengths.append(len(ids))
            labels = [i if trained else IGNORED for i, trained in zip(ids, mask, strict=True)]
            # The first token of a document has no context of its own to be predicted from.
            documents.append(Document(ids, [IGNORED, *labels[1:]]))
    return documents


def trained_spans(values: dict[str, Any], item: Conversation, rendered: Rendered) -> list[tuple[int, int]]:
    """The spans of a row that carry loss: as TRL decides it, all of the text, the completion, or the assistant's own.

    By default a row of prompt and completion is trained on its completion, any other row on all of its text.
    """
    if values.get("assistant_only_loss", False):
        return rendered.spans
    completion_only = values.get("completion_only_loss")
    if item.completion_turns and completion_only is not False:
        return rendered.spans[-item.completion_turns :]
    return rendered.spans if completion_only else [(0, len(rendered.text))]


def _trained_text(
    text: str, spans: list[tuple[int, int]], offsets: list[tuple[int, int]], mask: list[bool]
) -> list[str]:
    """The text of the tokens trained in each span."""
    out = []
    for start, end in spans:
        inside = [o for o, trained in zip(offsets, mask, strict=True) if trained and o[0] >= start and o[1] <= end]
        out.append(text[inside[0][0] : inside[-1][1]] if inside else "")
    return out


def _document_limit(values: dict[str, Any]) -> int | None:
    """Longest document kept whole; None where packing cuts or splits instead."""
    if values.get("packing") and values.get("packing_strategy") in ("wrapped", "bfd_split"):
        return None
    return values.get("max_length", 1024)


def _pack(documents: list[Document], values: dict[str, Any]) -> Iterator[dict[str, list[int]]]:
    capacity, strategy = values.get("max_length", 1024), values.get("packing_strategy", "bfd")
    if not values.get("packing"):
        plan = [[(i, 0, len(d.input_ids))] for i, d in enumerate(documents)]
    elif strategy == "wrapped":
        plan = packing.wrapped([len(d.input_ids) for d in documents], capacity)
    else:
        pieces = [
            (i, start, min(start + capacity, len(d.input_ids)))
            for i, d in enumerate(documents)
            for start in range(0, len(d.input_ids), capacity)
        ]
        bins = packing.best_fit_decreasing([end - start for _, start, end in pieces], capacity)
        plan = [[pieces[i] for i in chosen] for chosen in bins]
    for sequence in plan:
        ids: list[int] = []
        labels: list[int] = []
        lengths = []
        for number, start, end in sequence:
            document = documents[number]
            ids += document.input_ids[start:end]
            labels += [IGNORED, *document.labels[start + 1 : end]]
            lengths.append(end - start)
        yield {"input_ids": ids, "labels": labels, "seq_lengths": lengths}


def _pairs(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, tally: Tally) -> dict[str, Dataset]:
    """Preference rows as `prompt_ids`, `chosen_ids`, `rejected_ids`."""
    values = recipe.values
    renderer = Renderer(tokenizer)
    limit = values.get("max_length", 1024)
    defaults = values.get("chat_template_kwargs") or {}
    rows = []
    for source, row in drawn_rows(recipe, tally):
        try:
            item = pair(row.fields, defaults)
            tally.arguments.update(item.kwargs)
            encoded = encode_pair(item, renderer, tokenizer)
        except RowError as error:
            tally.reject(source.name, row.place, str(error))
            continue
        prompt, chosen, rejected = (len(encoded[k]) for k in ("prompt_ids", "chosen_ids", "rejected_ids"))
        if limit is not None and prompt >= limit:
            tally.reject(source.name, row.place, f"the prompt has {prompt} tokens and fills max_length {limit}")
            continue
        counts = tally.of(source.name, "think" if thinks(item) else "no_think")
        counts.kept += 1
        counts.tokens += prompt + chosen + rejected
        counts.trained += chosen + rejected
        if limit is not None:
            counts.cut += max(0, prompt + chosen - limit) + max(0, prompt + rejected - limit)
        counts.lengths.append(prompt + chosen + rejected)
        rows.append(encoded)
    mixture = values["dataset_mixture"]
    train, test = split_off(len(rows), mixture.get("test_split_size"), mixture.get("seed", 0))
    splits = {"train": train, "test": test} if test else {"train": train}
    features = Features({n: List(Value("int32")) for n in ("prompt_ids", "chosen_ids", "rejected_ids")})
    return {name: Dataset.from_list([rows[i] for i in chosen], features=features) for name, chosen in splits.items()}


def thinks(item: Pair) -> bool:
    """Whether a pair is in think mode."""
    return Conversation(item.prompt, item.kwargs).thinks


def encode_pair(item: Pair, renderer: Renderer, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """Token ids of a pair: the prompt with its generation prompt, and each answer to its end-of-turn token.

    Raises:
        RowError: the prompt's tokens are not a prefix of prompt + answer, or an answer has no tokens.
    """
    prompt = renderer.prompt(item.prompt, item.kwargs)
    texts = [prompt] + [renderer.render(item.prompt + side, item.kwargs)[0] for side in (item.chosen, item.rejected)]
    ids = [e.ids for e in encode(tokenizer, texts)]
    encoded = {"prompt_ids": ids[0]}
    for name, whole in (("chosen_ids", ids[1]), ("rejected_ids", ids[2])):
        if whole[: len(ids[0])] != ids[0]:
            raise RowError(f"the prompt's tokens are not a prefix of prompt + {name.removesuffix('_ids')}")
        answer = whole[len(ids[0]) :]
        if tokenizer.eos_token_id in answer:
            answer = answer[: len(answer) - answer[::-1].index(tokenizer.eos_token_id)]
        if not answer:
            raise RowError(f"the {name.removesuffix('_ids')} answer has no tokens")
        encoded[name] = answer
    if encoded["chosen_ids"] == encoded["rejected_ids"]:
        raise RowError("chosen and rejected have the same tokens")
    return encoded


def show_table(folder: Path) -> str:
    """The counts of a prepared folder, a line a source and mode."""
    rows = json.loads((folder / "stats.json").read_text())["sources"]
    columns = ("source", "mode", "kept", "rejected", "tokens", "trained", "mean_length", "p95_length", "cut")
    shown = [[f"{r[c]:,}" if isinstance(r[c], int) else str(r[c]) for c in columns] for r in rows if r["read"]]
    return text_table(list(columns), shown)
