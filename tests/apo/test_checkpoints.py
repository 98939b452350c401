"""Intermediate steps kept as members of their own."""

import json
import re
import shutil

import pytest
import torch
from apo_helpers import train_members
from helpers import state_dict
from programs import run_ok

from apo_soup.errors import UserError


def test_kept_checkpoints_are_members_of_their_own(packed_recipe, capsys):
    """`1-at-2` is what a run of two steps ends with; a member is whole only with its checkpoints."""
    options = {"lr_scheduler_type": "constant", "warmup_steps": 0}
    path, short = packed_recipe("short", max_steps=2, **options)
    train_members(path)
    path, folder = packed_recipe("long", max_steps=4, checkpoints=[2, 0.75], **options)
    train_members(path)
    assert sorted(f.name for f in folder.glob("[!.]*")) == ["1", "1-at-0.75", "1-at-2"]
    expected = state_dict(short / "1")
    for name, tensor in state_dict(folder / "1-at-2").items():
        assert torch.equal(tensor, expected[name]), name
    assert json.loads((folder / "1-at-0.75" / "manifest.json").read_text())["metrics"] == {"steps": 3}
    assert run_ok("-m", "apo", "--config", path).count("up to date") == 3
    final = state_dict(folder / "1")
    shutil.rmtree(folder / "1-at-2")
    again = run_ok("-m", "apo", "--config", path)
    assert "apo/1-at-2: running, because it has not run yet" in again
    assert (folder / "1-at-2" / "model.safetensors").is_file()
    assert all(torch.equal(t, final[n]) for n, t in state_dict(folder / "1").items())


@pytest.mark.parametrize(
    ("checkpoints", "told"),
    [
        ([0], "checkpoints.0: expected a step's number"),
        ([2, 2], "expected each checkpoint once, got 2 twice"),
        ([0.5, 2], "expected different steps, got 0.5 and 2, which are both step 2 of 4"),
        ([4], "checkpoints: expected steps before the last one, 4, got 4"),
    ],
)
def test_a_checkpoint_that_cannot_be_kept_is_told(packed_recipe, checkpoints, told):
    path, folder = packed_recipe(max_steps=4, checkpoints=checkpoints)
    with pytest.raises(UserError, match=re.escape(told)):
        train_members(path)
    assert not (folder / "1").exists()
