"""Checkpoints of a stage that was killed: only those that were written to their end count."""

import json
import math
import shutil

import pytest
import torch
from programs import two_ranks

from apo_soup.progress import QUIET
from apo_soup.runs.durable import LARGE, content_record, content_records, damage
from apo_soup.runs.stage import Stage
from apo_soup.training.checkpoints import WHOLE, begin_stage, checkpoint_fault, last_checkpoint
from apo_soup.training.finite import all_finite


def write_checkpoint(folder, step, recorded=True):
    folder.mkdir(parents=True)
    (folder / "optimizer.pt").touch()
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    if recorded:
        (folder / WHOLE).write_text(json.dumps({"files": content_records(folder)}))


def test_a_stage_goes_on_from_its_newest_whole_checkpoint(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv(QUIET, "1")
    stage = Stage("sft", tmp_path / "sft", {}, {})
    begin_stage(stage, "sft.yaml")
    assert last_checkpoint(stage.partial) is None
    for step in (5, 10, 100, 105):
        write_checkpoint(stage.partial / f"checkpoint-{step}", step, recorded=step in (5, 100))
    assert last_checkpoint(stage.partial) == stage.partial / "checkpoint-100", "by number, not by name"
    shutil.copytree(stage.partial / "checkpoint-100", stage.partial / "checkpoint-100-copy")
    begin_stage(stage, "sft.yaml")
    left = ["checkpoint-100", "checkpoint-100-copy", "checkpoint-5", "damaged-checkpoint-10", "damaged-checkpoint-105"]
    assert sorted(f.name for f in stage.partial.glob("*checkpoint-*")) == left
    fault = "its record whole cannot be read: No such file or directory"
    assert f"warning: sft: {stage.partial}/checkpoint-105 is not used: {fault}" in capsys.readouterr().out.splitlines()
    assert last_checkpoint(stage.partial) == stage.partial / "checkpoint-100", "a person's copy is none of ours"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        (WHOLE, "", f"its record {WHOLE} cannot be read: expected valid JSON"),
        (WHOLE, "[]", f"its record {WHOLE} cannot be read: expected a mapping, got a list"),
        (WHOLE, '{"files": {}}', f"its record {WHOLE} cannot be read: files: expected at least one entry, got a"),
        (WHOLE, '{"files": {"optimizer.pt": {"bytes": 0}}}', f"its record {WHOLE} has no hash of optimizer.pt"),
        (WHOLE, '{"files": {"optimizer.pt": {"bytes": "5"}}}', "cannot be read: files.optimizer.pt.bytes: expected a"),
        ("counted.json", '{"tokens": "many", "seconds": 1}', "counted.json: tokens: expected a number, got text"),
        ("trainer_state.json", "null", "trainer_state.json: expected a mapping, got null"),
        ("trainer_state.json", "", "trainer_state.json: expected valid JSON"),
    ],
)
def test_a_checkpoint_whose_own_files_are_of_another_form_is_not_used(tmp_path, name, content, told):
    checkpoint = tmp_path / "checkpoint-5"
    write_checkpoint(checkpoint, 5, recorded=False)
    (checkpoint / "counted.json").write_text('{"tokens": 1, "seconds": 1}')
    if name != WHOLE:
        (checkpoint / name).write_text(content)
    (checkpoint / WHOLE).write_text(json.dumps({"files": content_records(checkpoint)}))
    assert (checkpoint_fault(checkpoint) is None) == (name == WHOLE)
    (checkpoint / name).write_text(content)
    assert told in checkpoint_fault(checkpoint)


BEGINS = """
import sys
from pathlib import Path
from accelerate import PartialState
from apo_soup.errors import run_main
from apo_soup.runs.stage import Stage
from apo_soup.training.checkpoints import begin_stage
PartialState(cpu=True)
run_main(lambda: print(begin_stage(Stage("sft", Path(sys.argv[1]), {}, {}), "sft.yaml")))
"""


def test_where_the_main_process_cannot_begin_the_others_end_without_a_word(tmp_path):
    Stage("sft", tmp_path / "sft", {}, {}).begin()
    ended = two_ranks("-c", BEGINS, tmp_path / "sft").wait()
    told = (
        f"error: {tmp_path}/.sft.partial: sft: expected 1 processes, as it was begun with, got 2; launch with as many "
        "again, write global_batch_size into the file, which holds on any number, or remove that folder to start anew"
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"{told}\n"


def test_a_checkpoint_without_the_optimiser_is_not_gone_on_from(tmp_path):
    write_checkpoint(tmp_path / "checkpoint-5", 5, recorded=False)
    (tmp_path / "checkpoint-5" / "optimizer.pt").unlink()
    (tmp_path / "checkpoint-5" / WHOLE).write_text(json.dumps({"files": content_records(tmp_path / "checkpoint-5")}))
    assert checkpoint_fault(tmp_path / "checkpoint-5") == "it holds no state of the optimiser"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
def test_weights_of_every_type_are_looked_at(dtype):
    weight = torch.ones(3).to(dtype)
    assert all_finite([weight])
    if dtype.is_floating_point:
        assert not all_finite([weight, torch.tensor([1.0, math.nan]).to(dtype)])


@pytest.mark.parametrize("size", [0, 5, LARGE])
def test_a_record_finds_a_file_that_is_missing_cut_or_changed(tmp_path, size):
    file = tmp_path / "below" / "file"
    file.parent.mkdir()
    file.write_bytes(bytes(size))
    records = content_records(tmp_path)
    assert set(records["below/file"]) == {"bytes", "xxh3" if size >= LARGE else "sha256"}
    assert damage(tmp_path, records) is None
    file.write_bytes(bytes(size) + b"1")
    assert damage(tmp_path, records) == f"below/file has {size + 1:,} bytes, not {size:,}"
    if size:
        file.write_bytes(b"1" + bytes(size - 1))
        assert content_record(file)["bytes"] == size
        assert damage(tmp_path, records) == "below/file has changed"
    file.unlink()
    assert damage(tmp_path, records) == "below/file is missing"
