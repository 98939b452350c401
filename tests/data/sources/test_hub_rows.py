"""Rows of the Hub: read in a process of their own, which a dataset that takes its reader with it costs alone."""

import os
import signal
import sys

import datasets
import pytest
from datasets import Dataset

from apo_soup.data.sources import hub_rows
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="what is patched here is inherited by a fork alone")
ROWS = [{"id": n, "text": None if n == 3 else f"row {n}"} for n in range(600)]


class DyingTable:
    """As a library does that reads out of bounds in the second batch."""

    def iter(self, size):
        yield {"id": list(range(size))}
        os.kill(os.getpid(), signal.SIGSEGV)


def rows_of(monkeypatch, table):
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: table)
    monkeypatch.setattr(hub_rows, "hub_commit", lambda *_: "c0ffee")
    return hub_rows.hub_rows(Source("some/rows"), "sft.yaml:3: dataset_mixture.datasets.0.id")


def test_all_rows_come_in_their_order_without_their_nulls(monkeypatch):
    rows = list(rows_of(monkeypatch, Dataset.from_list(ROWS)))
    assert [row.content for row in rows] == [{k: v for k, v in row.items() if v is not None} for row in ROWS]
    assert (rows[3].place, rows[599].size) == ("some/rows:row 3", len("row 599"))


def test_a_reader_that_dies_is_told_of_with_its_dataset(monkeypatch):
    rows = rows_of(monkeypatch, DyingTable())
    told = (
        r"^sft.yaml:3: dataset_mixture.datasets.0.id: source some/rows: expected a dataset that can be read, got one "
        "whose reader was ended by SIGSEGV after 256 rows; remove it from the cache"
    )
    with pytest.raises(UserError, match=told):
        list(rows)


def test_what_the_library_raises_there_is_told_as_ever(monkeypatch):
    class Broken:
        def iter(self, size):
            yield {"id": [1]}
            raise OSError("the line is dead\nand more")

    rows = rows_of(monkeypatch, Broken())
    assert next(rows).content == {"id": 1}
    with pytest.raises(UserError, match="got OSError from the Hub after row 1: the line is dead; check id"):
        next(rows)
