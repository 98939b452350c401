"""The tokenizer at work beside the thread that renders, with a core for each.

The tokenizer's own threads are as many as the cores. With the one that renders they are one more, so that it would get
less than a core though everything waits for it, and they wait for one another where they share their cache. Here they
are one fewer than the cores, and the thread that renders takes a part of their work when it would have to wait.
"""

import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tokenizers import Encoding
from transformers import PreTrainedTokenizerBase

from apo_soup.models.tokenizer import encode_ids

PARALLELISM = "TOKENIZERS_PARALLELISM"
OFF = ("", "off", "false", "f", "no", "n", "0")
FEWEST_PARTS = 4
PARTS_A_THREAD = 2

# Texts and what gives their encodings.
Part = tuple[list[str], "Future[list[Encoding]]"]


class TokenThreads:
    """Threads, `threads` of them, that tokenise texts."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, pool: ThreadPoolExecutor, threads: int):
        self.tokenizer, self.pool, self.threads = tokenizer, pool, threads

    def begin(self, texts: list[str]) -> list[Part]:
        """Begin to tokenise texts, in parts."""
        size = max(1, -(-len(texts) // max(FEWEST_PARTS, PARTS_A_THREAD * self.threads)))
        parts = (texts[start : start + size] for start in range(0, len(texts), size))
        return [(part, self.pool.submit(encode_ids, self.tokenizer, part)) for part in parts]

    def encodings(self, parts: list[Part]) -> list[Encoding]:
        """The encodings of all texts of some parts, in their order; parts that no thread has begun, from the last one
        on, are done here.
        """
        here = {
            number: encode_ids(self.tokenizer, texts)
            for number, (texts, future) in reversed([*enumerate(parts)])
            if future.cancel()
        }
        done = (here[number] if number in here else future.result() for number, (_, future) in enumerate(parts))
        return [encoding for part in done for encoding in part]


@contextmanager
def token_threads(tokenizer: PreTrainedTokenizerBase) -> Iterator[TokenThreads]:
    """Threads for a tokenizer, whose own are switched off meanwhile; one alone where they are off already."""
    before = os.environ.get(PARALLELISM)
    threads = 1 if before is not None and before.lower() in OFF else max(1, len(_cores()) - 1)
    os.environ[PARALLELISM] = "false"
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield TokenThreads(tokenizer, pool, threads)
    finally:
        if before is None:
            del os.environ[PARALLELISM]
        else:
            os.environ[PARALLELISM] = before


def _cores() -> range | set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
