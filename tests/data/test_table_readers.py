"""A damaged table that takes its reader with it costs one process, which names the file."""

import os
import signal
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers import chat

from apo_soup.config.load import load
from apo_soup.data.preparation import recipe_chunks
from apo_soup.data.table_readers import end_of, require_living_readers
from apo_soup.errors import UserError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="no process is forked")
# So many rows that a file of JSON lines has several parts.
ROWS = [chat(f"What is {n} + {n}?", f"{n + n}. " * 40, False) for n in range(40)]


def dies(*_, **__):
    """As a library does that reads out of bounds."""
    os.kill(os.getpid(), signal.SIGSEGV)


def test_how_a_process_ends_is_told_and_what_it_raises_is_not():
    assert end_of(dies) == "SIGSEGV"
    assert end_of(lambda: 1 / 0) is None
    assert end_of(lambda: sys.exit(3)) is None


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("kind", ["arrow", "parquet"])
def test_the_file_is_named_and_this_process_lives(write_recipe, tmp_path, monkeypatch, kind, processes):
    table, files = pa.Table.from_pylist(ROWS), [tmp_path / f"{name}.{kind}" for name in "ab"]
    for file in files:
        if kind == "parquet":
            pq.write_table(table, file, row_group_size=20)
        else:
            with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table)
    sources = {"datasets": [{"id": str(tmp_path / f"*.{kind}")}]}
    values = {"output_dir": "x", "model_name_or_path": "m", "dataset_mixture": sources, "dataset_num_proc": processes}
    recipe = load(write_recipe("sft.yaml", values), "sft")
    chunks = recipe_chunks(recipe)
    require_living_readers(recipe, chunks)
    whole = files[0].read_bytes()
    files[0].write_bytes(whole[:200])
    require_living_readers(recipe, chunks)  # a file that cannot be read is told of where its rows are taken
    files[0].write_bytes(whole)
    of_library = pq.ParquetFile if kind == "parquet" else pa.ipc
    monkeypatch.setattr(of_library, "iter_batches" if kind == "parquet" else "open_stream", dies)
    with pytest.raises(
        UserError, match=rf"datasets\.0\.id: .*[ab]\.{kind}: expected a file that can be read, .*SIGSEGV"
    ):
        require_living_readers(recipe, chunks)
