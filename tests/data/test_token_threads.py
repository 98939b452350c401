"""Texts tokenised beside the thread that renders: the tokens of one call, whoever did which part."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from apo_soup.data.token_threads import PARALLELISM, TokenThreads, token_threads
from apo_soup.models.tokenizer import encode_ids


@pytest.mark.parametrize("count", [0, 1, 3, 11])
def test_parts_are_joined_in_the_order_of_the_texts(tokenizer, count):
    texts = [f"text {n} of some" for n in range(count)]
    wanted = [e.ids for e in encode_ids(tokenizer, texts)]
    with token_threads(tokenizer) as threads:
        assert [e.ids for e in threads.encodings(threads.begin(texts))] == wanted


def test_parts_that_no_thread_has_begun_are_done_by_the_thread_that_waits(tokenizer):
    texts = [f"text {n}" for n in range(8)]
    held = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(held.wait, 60)  # the only thread is busy, so nothing but this one can tokenise
        threads = TokenThreads(tokenizer, pool, 1)
        found = threads.encodings(threads.begin(texts))
        held.set()
    assert [e.ids for e in found] == [e.ids for e in encode_ids(tokenizer, texts)]


@pytest.mark.parametrize(("before", "most"), [("true", None), (None, None), ("false", 1)])
def test_the_tokenizers_own_threads_are_off_meanwhile_and_then_as_before(monkeypatch, tokenizer, before, most):
    monkeypatch.delenv(PARALLELISM, raising=False)
    if before:
        monkeypatch.setenv(PARALLELISM, before)
    with token_threads(tokenizer) as threads:
        assert os.environ[PARALLELISM] == "false"
        assert most is None or threads.threads == most
    assert os.environ.get(PARALLELISM) == before
