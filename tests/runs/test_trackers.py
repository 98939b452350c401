"""What trackers write is kept in the run's logs, under the recipe's and the stage's name, and goes on after a kill."""

import getpass
import os
from pathlib import Path

import pytest
from helpers import TRAINING

from apo_soup.config.load import load
from apo_soup.config.training import TRACKERS
from apo_soup.errors import UserError
from apo_soup.plan.check import check_recipe
from apo_soup.runs import trackers
from apo_soup.runs.stage import Stage
from apo_soup.runs.trackers import keep_what_trackers_write, logging_note, run_name, tracker_folder

VARIABLES = ("TENSORBOARD_LOGGING_DIR", "TRACKIO_DIR", "WANDB_DIR", "WANDB_RUN_ID", "WANDB_RESUME", "WANDB_PROJECT")


@pytest.fixture
def sft(tmp_path, write_recipe, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trackers, "_SET", set())
    for name in VARIABLES:
        monkeypatch.setenv(name, "")  # so that it is put back
        monkeypatch.delenv(name)
    values = TRAINING | {"model_name_or_path": "base", "output_dir": "runs/mine/sft"}
    (tmp_path / "r").mkdir()

    def make(**changes):
        path = write_recipe("r/sft.yaml", values | {"dataset_mixture": {"datasets": [{"id": "a.jsonl"}]}} | changes)
        return load(path, "sft"), Stage("sft", Path("runs/mine/sft"), {}, {})

    return make


def test_transformers_knows_these_trackers():
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    assert set(TRACKERS) == {*INTEGRATION_TO_CALLBACK, "none", "all"}


def test_a_run_has_its_recipes_and_stages_name_and_keeps_it(sft):
    recipe, stage = sft()
    stage.begin()
    name = run_name(recipe, stage)
    assert name.startswith("r-sft-")
    assert len(name) == len("r-sft-") + 6
    stage.begin()
    assert run_name(recipe, stage) == name, "it goes on"
    other = Stage("sft", stage.folder, {"seed": 2}, {})
    other.begin()
    assert run_name(recipe, other) != name, "another training"
    assert run_name(sft(run_name="my run")[0], stage) == "my run"


def test_what_is_written_stays_in_the_runs_logs(sft, monkeypatch):
    monkeypatch.setattr(trackers, "_is_installed", lambda tracker: True)
    recipe, stage = sft(report_to=["tensorboard", "wandb"])
    stage.begin()
    monkeypatch.setenv("WANDB_PROJECT", "a person's")
    keep_what_trackers_write(recipe, stage)
    assert tracker_folder(recipe, stage) == Path("runs/mine/logs/sft")
    assert Path("runs/mine/logs/sft").is_dir()
    name = run_name(recipe, stage)
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(Path(f"runs/mine/logs/sft/{name}").absolute())
    assert os.environ["WANDB_DIR"] == os.environ["TRACKIO_DIR"] == str(Path("runs/mine/logs/sft").absolute())
    assert os.environ["WANDB_RESUME"] == "allow"
    assert os.environ["WANDB_RUN_ID"] == name
    assert os.environ["WANDB_PROJECT"] == "a person's"
    member = Stage("apo/2", Path("runs/mine/apo/2"), {}, {})
    keep_what_trackers_write(recipe, member)
    assert os.environ["WANDB_DIR"].endswith("runs/mine/logs/apo/2"), "the next member has its own"
    keep_what_trackers_write(sft(report_to="wandb", run_name="try 2: lr/3 #4")[0], stage)
    assert os.environ["WANDB_RUN_ID"] == f"try-2-lr-3-4-{stage.begun_as}", "wandb takes no such signs in an id"
    assert tracker_folder(sft(logging_dir="elsewhere")[0], stage) == Path("elsewhere")


def test_no_tracker_writes_where_a_stage_is_made(sft, tmp_path, monkeypatch):
    """Files there would keep the stage from its folder, or go with what it has not finished."""
    (tmp_path / "runs/mine/sft").mkdir(parents=True)
    (tmp_path / "link").symlink_to("runs/mine/sft")
    (tmp_path / "r" / "mid.yaml").write_text("output_dir: runs/other/mid\n")
    home = f"~{getpass.getuser()}"
    for folder in (
        "runs/mine/sft", "runs/mine/sft/logs", f"{tmp_path}/runs/mine/sft/a/b", "runs/mine/../mine/sft/x", "link/logs",
        "runs/mine", ".", "runs/mine/.sft.partial/logs", "runs/mine/merged/logs", "runs/other/mid/logs",
    ):  # fmt: skip
        recipe, stage = sft(logging_dir=folder, report_to="tensorboard")
        assert tracker_folder(recipe, stage) == Path("runs/mine/logs/sft"), folder
        assert logging_note(recipe) == (
            f"logging_dir: {folder} is, holds or lies in a stage's folder, which is absent or whole; trackers write to "
            "runs/mine/logs/STAGE"
        )
    assert any("logging_dir: runs/other/mid/logs is, " in note for note in check_recipe(tmp_path / "r")[0][-1].notes)
    for folder in ("runs/mine/logs", "runs/mine/sft-logs", "runs/mine/tb", "elsewhere", f"{home}/tb", "~nobody-/tb"):
        recipe, stage = sft(logging_dir=folder, report_to="tensorboard")
        assert logging_note(recipe) is None, folder
        assert tracker_folder(recipe, stage) == Path(os.path.expanduser(folder))
    (tmp_path / "file").touch()
    monkeypatch.setattr(trackers, "_is_installed", lambda tracker: True)
    for folder in ("file", "file/logs"):
        with pytest.raises(UserError, match=r"sft.yaml:\d+: logging_dir: expected a folder, got file.*, which is or"):
            keep_what_trackers_write(sft(logging_dir=folder, report_to="tensorboard")[0], stage)


def test_a_tracker_that_is_misspelt_or_missing_is_told_at_check(sft):
    with pytest.raises(
        UserError, match=r"sft.yaml:\d+: report_to: expected trackers of none, .*, got tensorbord; the nearest is t"
    ):
        sft(report_to="tensorbord")
    recipe, _ = sft(report_to=["codecarbon", "none"])
    recipes, _ = check_recipe(recipe.path.parent)
    assert any(
        "report_to: codecarbon is not installed, metrics stay in the run folder (pip install codecarbon)" in note
        for note in recipes[0].notes
    )
