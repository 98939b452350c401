"""Folders are loaded in another process while this one has not imported transformers."""

import json
import os
import subprocess
import sys

import pytest
from merge_helpers import set_config
from safetensors.torch import load_file, save_file

from apo_soup.errors import UserError
from merge.load_process import COMMAND, LoadProcess
from merge.loading import loading_faults


@pytest.fixture
def started(monkeypatch, run):
    """A LoadProcess whose other process runs: to it, this one seems to have imported nothing."""
    with LoadProcess() as loads:
        with monkeypatch.context() as patch:
            patch.delitem(sys.modules, "transformers.modeling_utils")
            loads.start(run / "mid")
        yield loads


def test_the_other_process_finds_and_refuses_what_this_one_does(run, started, capfd):
    whole, cut, foreign = run / "mid", run / "apo" / "1", run / "apo" / "2"
    tensors = load_file(cut / "model.safetensors")
    del tensors["model.norm.weight"]
    save_file(tensors, cut / "model.safetensors", metadata={"format": "pt"})
    set_config(foreign, model_type="nobodys")
    assert not any(started.faults(whole, "here").values())
    found = started.faults(cut, "here")
    assert found == loading_faults(cut, "here")
    assert found["missing_keys"] == {"model.norm.weight"}
    assert started.faults(foreign, "here") is None
    set_config(cut, num_hidden_layers="many")
    with pytest.raises(UserError, match=r"merge\.yaml:3: merge: expected a folder that transformers loads") as told:
        started.faults(cut, "merge.yaml:3: merge")
    with pytest.raises(UserError) as here:
        loading_faults(cut, "merge.yaml:3: merge")
    assert str(told.value) == str(here.value)
    assert capfd.readouterr().out == ""


def test_a_process_that_has_died_is_done_without(run, started):
    started._process.kill()
    started._process.wait()
    assert not any(started.faults(run / "mid", "here").values())


def test_it_ends_with_the_process_that_started_it(run):
    pipe = subprocess.PIPE
    command = (*COMMAND, str(run / "nowhere"))
    other = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()})
    request = json.dumps({"folder": str(run / "mid"), "where": "here"})
    print(request, file=other.stdin, flush=True)
    assert not any(json.loads(other.stdout.readline())["faults"].values())
    other.stdin.close()
    assert other.wait(30) == 0
