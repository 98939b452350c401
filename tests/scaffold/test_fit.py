"""How rows are cut on a machine: what its memory holds by the plan."""

import json
from dataclasses import replace

import pytest
from helpers import ROOT, chat

from apo_soup.config.load import load
from apo_soup.memory import most_memory_held
from apo_soup.scaffold.fit import RowLengths, fitted
from apo_soup.scaffold.sizes import SIZES
from apo_soup.scaffold.stages import Cut

LENGTHS = RowLengths((900, 100), 700)


@pytest.fixture
def recipe(tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(chat("a", "b")))
    text = f"output_dir: runs/x/sft\nmodel_name_or_path: {ROOT}/recipes/tiny/base\nuse_cpu: true\nbf16: false\n"
    (tmp_path / "sft.yaml").write_text(
        text + "packing: true\nmax_length: 1024\ndataset_mixture: {datasets: [{id: rows.jsonl}]}\n"
    )
    return load(tmp_path / "sft.yaml", "sft")


def test_a_device_holds_as_much_as_its_memory_and_no_more(recipe):
    laptop, held = SIZES["laptop"], most_memory_held()
    cut, told = fitted(recipe, Cut(1024, 200), LENGTHS, 400, replace(laptop, memory=held + 8e9))
    assert (cut, told) == (Cut(1024, 200, 8, checkpointed=False), "")
    cut, told = fitted(recipe, Cut(512, 200), LENGTHS, 400, replace(laptop, memory=held + 1e5))
    assert cut == Cut(512, 200, 1, checkpointed=True)
    assert told.startswith("sft.yaml takes ")
    assert told.endswith("--lora, --qlora or a smaller model takes less")


def test_a_batch_leaves_an_epoch_some_steps():
    laptop, node = SIZES["laptop"], SIZES["node"]
    assert [Cut(512, sequences).batch(laptop) for sequences in (None, 10, 80, 160, 10_000)] == [16, 4, 8, 16, 16]
    assert Cut(2048, 3).unpacked(laptop, 87) == Cut(2048, 87, packed=3), "three steps of 4 in all are no training"
    assert Cut(2048, 87).unpacked(laptop, 87).packed is None
    assert Cut(2048, 700).unpacked(laptop, 9000) == Cut(2048, 700)
    assert Cut(512, 3).batch(node) == 8, "one a process"
    assert Cut(512, 100_000, at_once=8).fitting_batch(node).at_once == 8
    assert Cut(512, 3, at_once=8).fitting_batch(node).at_once == 1
