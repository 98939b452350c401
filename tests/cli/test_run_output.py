"""What a run prints for people and for programs."""

import json
import os
import signal
import sys

import pytest

from apo_soup.cli.order import next_step
from apo_soup.cli.run_output import RunOutput
from apo_soup.progress import QUIET
from apo_soup.runs.state import FolderState
from apo_soup.stops import StopAsked


def state(folder, reason=None):
    return FolderState(stage="sft", folder=str(folder), reason=reason, worker=None)


def test_programs_get_an_object_a_stage_and_nothing_else(tmp_path, capfd):
    output = RunOutput("json")
    output.say("$ accelerate launch")
    assert output.run([sys.executable, "-c", "print('a step')"], "sft") == 0
    output.ended("sft", [state(tmp_path / "sft", "it has not run yet")], seconds=1.26)
    output.ended("apo", [state(tmp_path / "sft")])
    output.ended("eval", [state(tmp_path / "sft", "changed")], code=2)
    output.ended("eval", [], code=128 + signal.SIGTERM)
    output.ended("data", [], "skipped")
    with pytest.raises(StopAsked), output.failure_told("mid"):
        raise StopAsked(signal.SIGTERM)
    written = capfd.readouterr()
    assert written.err == "$ accelerate launch\na step\n"
    lines = [json.loads(line) for line in written.out.splitlines()]
    assert [line["state"] for line in lines] == ["made", "current", "failed", "stopped", "skipped", "stopped"]
    assert [line["exit_code"] for line in lines] == [0, 0, 2, 143, 0, 143]
    folders = {"sft": {"folder": str(tmp_path / "sft"), "metrics": None}}
    assert lines[0] == {"stage": "sft", "state": "made", "exit_code": 0, "seconds": 1.3, "folders": folders}


def refuse_constant(text):
    raise ValueError(text)


@pytest.mark.parametrize(
    ("manifest", "metrics"),
    [('{"metrics": {"train_loss": NaN, "steps": 2}}', {"train_loss": None, "steps": 2}), ('{"metrics"', None)],
)
def test_an_object_is_valid_whatever_the_manifest_holds(manifest, metrics, tmp_path, capfd):
    (tmp_path / "manifest.json").write_text(manifest)
    RunOutput("json").ended("sft", [state(tmp_path)])
    line = json.loads(capfd.readouterr().out, parse_constant=refuse_constant)
    assert line["folders"]["sft"]["metrics"] == metrics


def test_a_quiet_run_says_warnings_and_tells_its_stages(capfd):
    output = RunOutput("quiet")
    output.say("$ accelerate launch")
    output.say("warning: made with arguments", warning=True)
    output.run([sys.executable, "-c", f"import os; print(os.environ['{QUIET}'])"], "sft")
    output.say("sft: up to date\nwarning: of a folder\n")
    output.ended("sft", [])
    assert capfd.readouterr().out == "warning: made with arguments\n1\nwarning: of a folder\n"
    assert QUIET not in os.environ


def test_what_comes_next_is_what_the_recipe_has(tmp_path):
    assert next_step("sft", tmp_path) == ""
    (tmp_path / "eval.yaml").touch()
    assert next_step("sft", tmp_path) == f"apo-soup run {tmp_path}"
    assert next_step("sft", tmp_path, "cpu.yaml") == f"apo-soup run {tmp_path} --launch cpu.yaml"
    assert next_step("eval", tmp_path) == f"apo-soup report {tmp_path}"
    assert next_step("data", tmp_path) == ""
