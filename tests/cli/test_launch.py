"""A launched stage's own words and code are the last; signals reach it through whatever stands between."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ENVIRONMENT, ROOT
from programs import program

from apo_soup.children import exit_code_of, run_program

# A test run in the background, or under nohup, hands on that these are ignored.
HEARD = "import signal; [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1)]\n"
HEARD += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
STAGE = (
    HEARD
    + """
import os, sys, time
from apo_soup.errors import run_main
from apo_soup.stops import STOPS, StopAsked
def main():
    with STOPS.deferred():
        open(sys.argv[1], "w").close()
        while STOPS.number is None:
            time.sleep(0.01)
        time.sleep(0.3)  # the step that is running
    raise StopAsked(STOPS.number, " after a step")
run_main(main)
"""
)
RUN = (
    HEARD
    + """
import sys
from apo_soup.children import run_program
sys.exit(run_program([sys.executable, *sys.argv[1:]], "x"))
"""
)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT", "SIGHUP"])
def test_a_signal_goes_on_to_the_stage_and_its_code_comes_back(tmp_path, name):
    (tmp_path / "stage.py").write_text(STAGE)
    ready = tmp_path / "ready"
    inner = ["-c", RUN, str(tmp_path / "stage.py"), str(ready)]
    words = [sys.executable, "-c", RUN, *inner]
    process = subprocess.Popen(words, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)
    while not ready.exists():
        time.sleep(0.01)
    process.send_signal(signal.Signals[name])
    told = process.communicate(timeout=30)[1]
    assert process.returncode == 128 + signal.Signals[name]
    assert told.splitlines()[-1] == f"stopped by {name} after a step; run the same command again to go on"
    assert "Traceback" not in told


def test_a_signal_that_comes_before_the_stage_is_not_lost(tmp_path):
    """The launcher imports for seconds before it starts a process that could be told."""
    (tmp_path / "accelerate").mkdir()
    (tmp_path / "accelerate" / "__init__.py").write_text("import time; print('imports', flush=True); time.sleep(60)")
    words = [sys.executable, "-m", "apo_soup.cli.launch", "-m", "sft", "--config", "sft.yaml"]
    environment = ENVIRONMENT | {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, env=environment, **pipes)
    assert process.stdout.readline() == "imports\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[1] == "stopped by SIGTERM; run the same command again to go on\n"
    assert process.returncode == 128 + signal.SIGTERM


def test_what_a_signal_ended_is_told_of(capfd):
    assert run_program([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"], "sft") == 137
    told = "sft was ended by SIGKILL; the system does that where memory runs out; run the same command again to go on\n"
    assert capfd.readouterr().err == told
    assert exit_code_of(2, "sft") == 2
    assert capfd.readouterr().err == ""


def test_a_mistake_behind_the_launcher_is_the_last_thing_told(tmp_path):
    (tmp_path / "sft.yaml").write_text("model_name_or_path: x\nlearning_rate: fast\noutput_dir: runs/x/sft\n")
    cpu = ROOT / "recipes" / "accelerate" / "cpu.yaml"
    result = program(
        "-m", "apo_soup.cli.launch", "--config_file", cpu, "-m", "sft", "--config", Path("sft.yaml"), cwd=tmp_path
    )
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "sft.yaml:2: learning_rate: expected a number" in result.stderr
    assert result.stderr.strip().splitlines()[-1].lstrip().startswith(("sft.yaml", "error: sft.yaml"))
