"""Portions of rows through an encoder, in one process or in many, in their order."""

import gc
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from transformers import PreTrainedTokenizerBase

from apo_soup.data.clean import Cleaner
from apo_soup.data.encode_pairs import PairEncoder
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.data.encoded import EncodedBatch
from apo_soup.data.encoder import RenderedBatch
from apo_soup.data.options import Options
from apo_soup.data.reading import Portion, RowBatch
from apo_soup.data.token_threads import Part, token_threads
from apo_soup.data.workers import WorkerEnded, in_processes
from apo_soup.errors import UserError

RowEncoder = SupervisedEncoder | PairEncoder
BATCHES_A_COLLECTION = 64


def encoder_for(tokenizer: PreTrainedTokenizerBase, options: Options, cleaner: Cleaner | None = None) -> RowEncoder:
    """The encoder of supervised rows or of pairs, as the options say."""
    return (PairEncoder if options.pairs else SupervisedEncoder)(tokenizer, options, cleaner)


def encoded_batches(portions: Iterable[Portion], encoder: RowEncoder, processes: int) -> Iterator[EncodedBatch]:
    """Read and encode portions in their order; what comes of them is the same whatever the number of processes.

    One process renders a batch while the tokenizer, which needs no interpreter, works on those before. Several
    processes read and encode whole portions each; of a source that is not divided, this one reads the rows.

    Raises:
        UserError: a row fails the mask check, or the system ended one of the processes.
    """
    # The collector would walk the libraries' many objects again and again, and then every row's. What is left in cycles
    # here is little, and is looked for now and then.
    spared = gc.get_freeze_count()
    if not spared:  # else by the program, for good
        gc.freeze()
    gc.disable()
    try:
        if processes == 1:
            batches = (batch for portion in portions for batch in portion.batches())
            yield from _now_and_then_collected(_overlapped(batches, encoder))
        else:
            yield from _in_processes(portions, encoder, processes)
    finally:
        gc.enable()
        if not spared:
            gc.unfreeze()


def _in_processes(portions: Iterable[Portion], encoder: RowEncoder, processes: int) -> Iterator[EncodedBatch]:
    items = (item for portion in portions for item in ([portion] if portion.chunk.divided else portion.batches()))
    try:
        for encoded in in_processes(_Encoding(encoder), items, processes):
            yield from encoded
    except WorkerEnded as error:
        place = error.item.place if isinstance(error.item, (Portion, RowBatch)) else ""
        raise UserError(
            f"{place}: expected rows that a process can read and encode, got a process that was ended {error.ended}; "
            "if memory was short, take a smaller dataset_num_proc, else look at these rows"
        ) from error


class _Encoding:
    """What a process does with rows, read here or sent to it."""

    def __init__(self, encoder: RowEncoder):
        self.encoder = encoder

    def __call__(self, item: Portion | RowBatch) -> list[EncodedBatch]:
        encoder = self.encoder
        batches = item.batches() if isinstance(item, Portion) else [item]
        encoded = [EncodedBatch.of(batch, encoder(batch.rows)) for batch in batches]
        gc.collect()
        return encoded


def _now_and_then_collected(batches: Iterator[EncodedBatch]) -> Iterator[EncodedBatch]:
    for number, batch in enumerate(batches, 1):
        yield batch
        if number % BATCHES_A_COLLECTION == 0:
            gc.collect()


def _overlapped(batches: Iterable[RowBatch], encoder: RowEncoder) -> Iterator[EncodedBatch]:
    with token_threads(encoder.tokenizer) as threads:
        ahead: deque[tuple[RowBatch, RenderedBatch[Any], list[Part]]] = deque()

        def finished() -> EncodedBatch:
            rows, rendered, parts = ahead.popleft()
            return EncodedBatch.of(rows, encoder.finish(rendered, threads.encodings(parts)))

        for rows in batches:
            rendered = encoder.render(rows.rows)
            ahead.append((rows, rendered, threads.begin(rendered.rests)))
            if len(ahead) > 2:
                yield finished()
        while ahead:
            yield finished()
