"""Batches of rows through an encoder, in one process or in many, in their order."""

import os
import pickle
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedTokenizerBase

from apo_soup.data.clean import Cleaner
from apo_soup.data.documents import Batch, RowToEncode
from apo_soup.data.encode_pairs import PairEncoder
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.data.encoder import RenderedBatch
from apo_soup.data.options import Options
from apo_soup.errors import UserError
from apo_soup.models.tokenizer import encode_ids

RowEncoder = SupervisedEncoder | PairEncoder


def encoder_for(tokenizer: PreTrainedTokenizerBase, options: Options, cleaner: Cleaner | None = None) -> RowEncoder:
    """The encoder of supervised rows or of pairs, as the options say."""
    return (PairEncoder if options.pairs else SupervisedEncoder)(tokenizer, options, cleaner)


def encoded_batches(batches: Iterable[list[RowToEncode]], encoder: RowEncoder, processes: int) -> Iterator[Batch]:
    """Encode batches in their order, the same whatever the number of processes.

    One process renders a batch while the tokenizer, which needs no interpreter, works on the one before. Several
    processes encode whole batches each.

    Raises:
        UserError: a row fails the mask check, or the system ended one of the processes.
    """
    if processes == 1:
        yield from _overlapped(batches, encoder)
        return
    context = get_context("forkserver")
    context.set_forkserver_preload(["apo_soup.data.encode"])
    try:
        with TemporaryDirectory() as folder, ProcessPoolExecutor(processes, context, _use_one_thread) as pool:
            path = str(Path(folder) / "encoder")
            Path(path).write_bytes(pickle.dumps(encoder))
            waiting: deque[Future[Batch]] = deque()
            for rows in batches:
                waiting.append(pool.submit(_encode_in_worker, path, rows))
                if len(waiting) > 2 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
    except BrokenProcessPool as error:
        raise UserError(
            f"dataset_num_proc: expected {processes} processes to prepare rows, got one that was ended from outside, "
            "by too little memory perhaps; take fewer"
        ) from error


def _use_one_thread() -> None:
    """A worker's tokenizer uses one thread, as there is a process for every core."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"


@cache
def _unpickled_encoder(path: str) -> RowEncoder:
    """The encoder that the parent process left for its workers, read once in each of them."""
    return pickle.loads(Path(path).read_bytes())


def _encode_in_worker(path: str, rows: list[RowToEncode]) -> Batch:
    return _unpickled_encoder(path)(rows)


def _overlapped(batches: Iterable[list[RowToEncode]], encoder: RowEncoder) -> Iterator[Batch]:
    with ThreadPoolExecutor(1) as pool:
        ahead: deque[tuple[RenderedBatch[Any], Future[Any]]] = deque()
        for rows in batches:
            rendered = encoder.render(rows)
            ahead.append((rendered, pool.submit(encode_ids, encoder.tokenizer, rendered.rests)))
            if len(ahead) > 2:
                before, encodings = ahead.popleft()
                yield encoder.finish(before, encodings.result())
        while ahead:
            before, encodings = ahead.popleft()
            yield encoder.finish(before, encodings.result())
