"""Rows to tokens: the work that is done once a row, in one process or in many.

An `Encoder` renders a batch of rows, tokenises all of it in one call, finds the trained tokens, cuts what is too long
and judges what is dropped. It knows nothing of files or of other rows, so batches may go to any process.
"""

import os
import pickle
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from apo_soup.data.char_to_token import TokenEdges
from apo_soup.data.clean import Cleaner, Fingerprint
from apo_soup.data.conversation import Conversation, Pair, Text, pair, supervised
from apo_soup.data.formats import Format, canonical
from apo_soup.data.mask_check import (
    PairSample,
    Sample,
    check_pair,
    check_sample,
    mode_fault,
    pair_fault,
    row_fault,
    said,
)
from apo_soup.data.prefix_cache import SharedHeads
from apo_soup.data.rows import Row, RowError, Source, template_arguments
from apo_soup.data.template import Span
from apo_soup.data.trained_spans import Renderer
from apo_soup.errors import UserError
from apo_soup.models.tokenizer import encode, encode_ids

IGNORED = -100
PAIR_COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")
SEQUENCE_COLUMNS = ("input_ids", "labels", "seq_lengths")
Array = np.ndarray
THOUGHT_ENDS = "</think>"


@dataclass(frozen=True)
class Options:
    """The keys of a training file that decide what becomes of a row.

    `strategy` is how documents are packed: bfd, wrapped, or None for a document a sequence.
    """

    pairs: bool
    max_length: int
    overflow: str
    strategy: str | None
    assistant_only_loss: bool
    completion_only_loss: bool | None
    template_kwargs: dict[str, Any]

    @classmethod
    def of(cls, values: dict[str, Any], pairs: bool) -> "Options":
        """From a recipe's values; TRL's `bfd_split` is `overflow: split` by another name."""
        packing = values.get("packing_strategy", "bfd") if values.get("packing") else None
        split = packing == "bfd_split"
        return cls(
            pairs=pairs,
            max_length=values.get("max_length", 1024),
            overflow=values.get("overflow") or ("split" if split else "truncate"),
            strategy="bfd" if split else packing,
            assistant_only_loss=values.get("assistant_only_loss", False),
            completion_only_loss=values.get("completion_only_loss"),
            template_kwargs=template_arguments(values.get("chat_template_kwargs")),
        )

    @property
    def wrapped(self) -> bool:
        """Whether documents are cut by the packer, as one stream, so that none of them is too long."""
        return self.strategy == "wrapped"


@dataclass(frozen=True)
class Task:
    """A row on its way: what it is, how often it is taken, and whether the gate looks at it."""

    source: Source
    row: Row
    shape: Format
    times: int
    gated: bool


@dataclass
class Document:
    """A row as tokens. `parts` of a supervised row: ids and labels, a pair of arrays for each piece of it (one, unless
    it was split); of a preference row: ids of prompt, chosen and rejected.

    `reasoning` counts trained tokens inside think blocks, `lost` tokens cut off or dropped for length.
    """

    mode: str
    parts: list[tuple[Array, ...]]
    tokens: int
    trained: int
    reasoning: int
    lost: int
    fingerprint: Fingerprint | None = None


@dataclass(frozen=True)
class Refused:
    """A row that is not trained on: `rejected` because it is at fault, `long` or `contaminated` as the recipe asks."""

    kind: str
    reason: str
    lost: int = 0


@dataclass
class Batch:
    """What became of the tasks of a batch, in their order, and the template arguments that they used."""

    tasks: list[Task]
    results: list[Document | Refused]
    arguments: set[str] = field(default_factory=set)


@dataclass
class Waiting:
    """A rendered row whose texts are being tokenised; `heads` are the tokens known already of each text's beginning."""

    number: int
    item: Conversation | Text | Pair
    texts: list[str]
    spans: list[Span]
    heads: list[Array | None]


@dataclass
class _Rendered:
    """Between the two halves of the work: rows with the texts that are still to be tokenised."""

    batch: Batch
    waiting: list[Waiting] = field(default_factory=list)
    rests: list[str] = field(default_factory=list)


class Encoder:
    """Turns batches of rows into documents, with one tokenizer and one set of options."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, options: Options, cleaner: Cleaner | None = None):
        self.tokenizer = tokenizer
        self.renderer = Renderer(tokenizer)
        self.edges = TokenEdges(tokenizer)
        self.heads = SharedHeads(tokenizer, self.edges.lengths is not None)
        self.thought_ends = tokenizer.get_vocab().get(THOUGHT_ENDS)
        self.options = options
        self.cleaner = cleaner or Cleaner()

    def __call__(self, tasks: list[Task]) -> Batch:
        rendered = self.render(tasks)
        return self.finish(rendered, encode_ids(self.tokenizer, rendered.rests))

    def render(self, tasks: list[Task]) -> _Rendered:
        """The first half: rows as text. Python's half, so it is worth running while another batch is tokenised."""
        out = _Rendered(Batch(tasks, [Refused("rejected", "")] * len(tasks)))
        for number, task in enumerate(tasks):
            try:
                fields = canonical(task.row.fields, task.shape)
                arguments = {**self.options.template_kwargs, **dict(task.source.chat_template_kwargs)}
                if self.options.pairs:
                    item: Any = pair(fields, arguments)
                    texts, spans = pair_texts(item, self.renderer), []
                else:
                    item = supervised(fields, arguments)
                    text, spans = trained_spans(item, self.renderer, self.options)
                    texts = [text]
            except RowError as error:
                out.batch.results[number] = Refused("rejected", str(error))
                continue
            out.batch.arguments.update(item.kwargs)
            match = self.cleaner.contaminated(item)
            if match:
                out.batch.results[number] = Refused("contaminated", match)
                continue
            heads, rests = zip(*map(self.heads.split, texts), strict=True)
            out.waiting.append(Waiting(number, item, texts, spans, heads))
            out.rests += rests
        return out

    def finish(self, rendered: _Rendered, encodings: list[Encoding]) -> Batch:
        """The second half: ids, labels and counts of the rendered rows.

        Raises:
            UserError: a row that the gate looks at fails it.
        """
        rests = iter(encodings)
        for row in rendered.waiting:
            task = rendered.batch.tasks[row.number]
            ids = [_joined(head, next(rests)) for head in row.heads]
            try:
                document = self._pair(task, row, ids) if self.options.pairs else self._supervised(task, row, *ids)
            except RowError as error:
                document = Refused("rejected", str(error))
            if isinstance(document, Document):
                document.fingerprint = self.cleaner.fingerprint(row.item)
            rendered.batch.results[row.number] = document
        return rendered.batch

    def _supervised(self, task: Task, row: Waiting, ids: Array) -> Document | Refused:
        item, spans, (text,) = row.item, row.spans, row.texts
        ranges = self.edges.ranges(text, ids, spans)
        labels = np.full(len(ids), IGNORED, dtype=np.int32)
        for first, last in ranges:
            labels[first:last] = ids[first:last]
        # The first token of a document has no context of its own to be predicted from.
        labels[:1] = IGNORED
        if task.gated:
            kept = [self.tokenizer.decode(ids[a:b]) for a, b in ranges]
            whole = spans == [(0, len(text))]
            sample = Sample(task.source.name, task.row.place, item, text, spans, kept, whole, self.renderer.knows_modes)
            check_sample(sample, self.renderer.ends)
        elif isinstance(item, Conversation):
            modes = self.renderer.knows_modes
            if spans == [(0, len(text))]:
                fault = mode_fault(item, said(item), modes)
            else:
                fault = row_fault(item, text, spans, self.renderer.ends, modes)
            if fault:
                raise RowError(fault)
        pieces, places, lost = self._fit(ids, labels)
        if not pieces:
            return Refused("long", f"{len(ids)} tokens, more than max_length {self.options.max_length}", lost)
        trained = within(ranges, [(start + 1, end) for start, end in places])  # a piece's first token never is
        if not trained:
            among = f" among the first {self.options.max_length} tokens" if lost else ""
            return Refused("rejected", f"no trained token{among}", lost)
        tokens = sum(len(piece) for piece, _ in pieces)
        mode = self._mode(item)
        reasoning = self._reasoning(text, ids, spans, ranges, places) if mode == "think" else 0
        return Document(mode, pieces, tokens, trained, min(reasoning, trained), lost)

    def _mode(self, item: Conversation | Text) -> str:
        """The mode a row is counted under: what it says, where neither the template nor the row knows of modes."""
        if isinstance(item, Text) or self.renderer.knows_modes or "enable_thinking" in item.kwargs:
            return item.mode
        return "think" if any(THOUGHT_ENDS in words for words in said(item)) else "no_think"

    def _reasoning(self, text: str, ids: Array, spans: list[Span], ranges: list[Span], places: list[Span]) -> int:
        """How many of the tokens at `places` are trained and inside think blocks, the closing tag included."""
        if self.thought_ends is None:
            thoughts = self.edges.ranges(text, ids, thought_spans(text, spans))
        else:
            thoughts = []
            for first, last in ranges:
                closing = ids[first:last] == self.thought_ends
                if closing.any():
                    thoughts.append((first, first + int(closing.argmax()) + 1))
        return within(thoughts, places)

    def _fit(self, ids: Array, labels: Array) -> tuple[list[tuple[Array, Array]], list[Span], int]:
        """The pieces of a document that fit `max_length`, the places they have in it, and how many tokens are lost; no
        piece when it is dropped.
        """
        limit = self.options.max_length
        if len(ids) <= limit or self.options.wrapped:
            return [(ids, labels)], [(0, len(ids))], 0
        if self.options.overflow == "drop":
            return [], [], len(ids)
        head = [(ids[:limit], labels[:limit])], [(0, limit)]
        if self.options.overflow == "truncate":
            return *head, len(ids) - limit
        pieces, places, lost = [], [], 0
        for start in range(0, len(ids), limit):
            piece = labels[start : start + limit].copy()
            piece[:1] = IGNORED
            if (piece != IGNORED).any():
                pieces.append((ids[start : start + limit], piece))
                places.append((start, start + len(piece)))
            else:  # a piece that trains nothing would be a sequence without a loss
                lost += len(piece)
        return (pieces, places, lost) if pieces else (*head, lost)

    def _pair(self, task: Task, row: Waiting, ids: list[Array]) -> Document | Refused:
        prompt, chosen, rejected = pair_ids([found.tolist() for found in ids], self.tokenizer.eos_token_id)
        sample = PairSample(task.source.name, task.row.place, row.item, row.texts, self.renderer.knows_modes)
        if task.gated:
            check_pair(sample, (prompt, chosen, rejected), self.tokenizer)
        fault = pair_fault(sample, (prompt, chosen, rejected), self.tokenizer)
        if fault:
            raise RowError(fault)
        limit = self.options.max_length
        if len(prompt) >= limit:
            reason = f"the prompt has {len(prompt)} tokens and fills max_length {limit}"
            kind = "long" if self.options.overflow == "drop" else "rejected"
            return Refused(kind, reason, len(prompt) + len(chosen) + len(rejected))
        room = limit - len(prompt)
        lost = max(0, len(chosen) - room) + max(0, len(rejected) - room)
        if lost and self.options.overflow == "drop":
            longest = len(prompt) + max(len(chosen), len(rejected))
            return Refused("long", f"{longest} tokens, more than max_length {limit}", longest)
        chosen, rejected = chosen[:room], rejected[:room]
        if chosen == rejected:
            raise RowError(f"chosen and rejected have the same tokens{f' among the first {limit}' if lost else ''}")
        parts = tuple(np.array(part, dtype=np.int32) for part in (prompt, chosen, rejected))
        trained = len(chosen) + len(rejected)
        reasoning = 0
        if row.item.mode == "think":
            asked = len(row.texts[0])
            for text, whole, answer in zip(row.texts[1:], ids[1:], (chosen, rejected), strict=True):
                end = len(prompt) + len(answer)
                reasoning += self._reasoning(text, whole, [(asked, len(text))], [(len(prompt), end)], [(0, end)])
        return Document(row.item.mode, [parts], len(prompt) + trained, trained, reasoning, lost)


def within(ranges: list[Span], places: list[Span]) -> int:
    """How many tokens of some ranges lie in some places."""
    return sum(max(0, min(last, end) - max(first, start)) for first, last in ranges for start, end in places)


def _joined(head: Array | None, rest: Encoding) -> Array:
    ids = np.array(rest.ids, dtype=np.int32)
    return ids if head is None else np.concatenate((head, ids))


def trained_spans(item: Conversation | Text, renderer: Renderer, options: Options) -> tuple[str, list[Span]]:
    """A row's text and the spans of it that carry loss: as TRL decides it, all of the text, the completion, or the
    assistant's own.

    By default a row of prompt and completion is trained on its completion, any other row on all of its text. A plain
    text is always trained as a whole.
    """
    answers = options.assistant_only_loss or options.completion_only_loss
    if isinstance(item, Conversation) and item.completion_turns and options.completion_only_loss is not False:
        answers = True
    if isinstance(item, Text) or not answers:
        text = renderer.text(item)
        return text, [(0, len(text))]
    rendered = renderer.conversation(item)
    only_last = item.completion_turns and (options.completion_only_loss or not options.assistant_only_loss)
    return rendered.text, rendered.spans[-item.completion_turns :] if only_last else rendered.spans


def thought_spans(text: str, spans: list[Span]) -> list[Span]:
    """The part of each trained span up to the end of its think block; none for a span without one."""
    ends = ((start, text.find(THOUGHT_ENDS, start, end)) for start, end in spans)
    return [(start, end + len(THOUGHT_ENDS)) for start, end in ends if end >= 0]


def pair_texts(item: Pair, renderer: Renderer) -> list[str]:
    """Three texts: the prompt with its generation prompt, and the prompt with each answer."""
    prompt = renderer.prompt(item.prompt, item.kwargs)
    return [prompt] + [renderer.render(item.prompt + side, item.kwargs)[0] for side in (item.chosen, item.rejected)]


def pair_ids(ids: list[list[int]], end_of_turn: int) -> tuple[list[int], list[int], list[int]]:
    """Prompt, chosen and rejected tokens of the three tokenised texts; answers end with their end-of-turn token.

    Raises:
        RowError: the prompt has no tokens or is not a prefix of prompt + answer, an answer has no tokens, or both are
            equal.
    """
    prompt, answers = ids[0], []
    if not prompt:
        raise RowError("the prompt has no tokens, so nothing predicts the first token of an answer")
    for name, whole in (("chosen", ids[1]), ("rejected", ids[2])):
        if whole[: len(prompt)] != prompt:
            raise RowError(f"the prompt's tokens are not a prefix of prompt + {name}")
        answer = whole[len(prompt) :]
        if end_of_turn in answer:
            answer = answer[: len(answer) - answer[::-1].index(end_of_turn)]
        if not answer:
            raise RowError(f"the {name} answer has no tokens")
        answers.append(answer)
    if answers[0] == answers[1]:
        raise RowError("chosen and rejected have the same tokens")
    return prompt, answers[0], answers[1]


def encode_pair(item: Pair, renderer: Renderer, tokenizer: PreTrainedTokenizerBase) -> dict[str, list[int]]:
    """Token ids of one pair, for an evaluation or a preview; raises RowError as `pair_ids` does."""
    ids = [e.ids for e in encode(tokenizer, pair_texts(item, renderer))]
    return dict(zip(PAIR_COLUMNS, pair_ids(ids, tokenizer.eos_token_id), strict=True))


def encoded(batches: Iterable[list[Task]], encoder: Encoder, processes: int) -> Iterator[Batch]:
    """Encode batches in their order, the same whatever the number of processes.

    One process renders a batch while the tokenizer, which needs no interpreter, works on the one before. Several
    processes encode whole batches each.
    """
    if processes == 1:
        yield from _overlapped(batches, encoder)
        return
    context = get_context("forkserver")
    context.set_forkserver_preload(["apo_soup.data.encode"])
    try:
        with TemporaryDirectory() as folder, ProcessPoolExecutor(processes, context, _one_thread) as pool:
            path = str(Path(folder) / "encoder")
            Path(path).write_bytes(pickle.dumps(encoder))
            waiting: deque[Future] = deque()
            for tasks in batches:
                waiting.append(pool.submit(_work, path, tasks))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            f"one of the {processes} processes that prepare rows was ended from outside, by too little memory perhaps; "
            "take a smaller dataset_num_proc"
        ) from error


def _one_thread() -> None:
    """A worker's tokenizer uses one thread, as there is a process for every core."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


@cache
def _unpickled(path: str) -> Encoder:
    """The encoder that the parent process left for its workers, read once in each of them."""
    return pickle.loads(Path(path).read_bytes())


def _work(path: str, tasks: list[Task]) -> Batch:
    return _unpickled(path)(tasks)


def _overlapped(batches: Iterable[list[Task]], encoder: Encoder) -> Iterator[Batch]:
    with ThreadPoolExecutor(1) as pool:
        ahead: deque[tuple[_Rendered, Future]] = deque()
        for tasks in batches:
            rendered = encoder.render(tasks)
            ahead.append((rendered, pool.submit(encode_ids, encoder.tokenizer, rendered.rests)))
            if len(ahead) > 2:
                before, encodings = ahead.popleft()
                yield encoder.finish(before, encodings.result())
        while ahead:
            before, encodings = ahead.popleft()
            yield encoder.finish(before, encodings.result())
