"""A program ends with the launcher that started it, and outlives a shell."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers import ENVIRONMENT, ROOT

# A test run in the background, or under nohup, hands on that these are ignored.
HEARD = "import signal; [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1)]\n"
HEARD += "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
WORK = """
import os, sys, time
from apo_soup.errors import run_main
def main():
    print(os.getpid(), flush=True)
    time.sleep(60)
run_main(main)
"""
# Whatever its name, it starts the program and waits for it.
START = "import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]])"


def started(tmp_path, launcher: str, work: str = WORK) -> tuple[subprocess.Popen, int]:
    """A launcher of that name, and the number of the program that it started."""
    (tmp_path / launcher).write_text(START)
    (tmp_path / "work.py").write_text(work)
    words = [sys.executable, str(tmp_path / launcher), str(tmp_path / "work.py")]
    process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return process, int(process.stdout.readline())


def runs(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().split(") ")[1][0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("launcher", ["accelerate", "torchrun", "apo-soup"])
def test_a_program_ends_with_its_launcher_and_says_so(tmp_path, launcher):
    process, program = started(tmp_path, launcher)
    process.kill()
    deadline = time.monotonic() + 10
    while runs(program) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not runs(program)
    assert process.communicate()[1] == "stopped by SIGTERM; run the same command again to go on\n"


WATCHES = """
import threading
from apo_soup import launcher
launcher._LOOK_SECONDS = 0.02
threading.Thread(target=launcher._watch, args=(os.getppid(),), daemon=True).start()
"""


def test_where_the_system_does_not_tell_of_the_launchers_end_a_thread_sees_it(tmp_path):
    """Under a name that is no launcher's, so that Linux sends nothing by itself."""
    process, program = started(tmp_path, "shell", f"import os{WATCHES}{WORK}")
    time.sleep(0.2)
    assert runs(program)
    process.kill()
    assert process.communicate(timeout=10)[1] == "stopped by SIGTERM; run the same command again to go on\n"


def started_by_make(tmp_path) -> tuple[subprocess.Popen, int]:
    (tmp_path / "work.py").write_text(WORK)
    # Under `make test` this is a make within a make, which says so before it starts anything.
    words = ["make", "--no-print-directory", "-o", ".venv/ready", "sft", f"PY={sys.executable} {tmp_path / 'work.py'}"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words, cwd=ROOT, env=ENVIRONMENT | {"LC_ALL": "C"}, **pipes)
    return process, int(process.stdout.readline())


def test_a_stage_ends_with_make(tmp_path):
    process, _ = started_by_make(tmp_path)
    process.kill()
    assert process.communicate(timeout=20)[1] == "stopped by SIGTERM; run the same command again to go on\n"


def test_make_adds_a_line_with_the_code_of_a_stage_that_was_stopped(tmp_path):
    process, stage = started_by_make(tmp_path)
    os.kill(stage, signal.SIGTERM)
    told, line = process.communicate(timeout=20)[1].splitlines()
    assert told == "stopped by SIGTERM; run the same command again to go on"
    assert re.fullmatch(r"make(\[\d+\])?: \*\*\* \[Makefile:\d+: sft\] Error 143", line)


def test_a_program_shows_its_stacks_when_it_is_asked_to_and_goes_on():
    words = [sys.executable, "-c", HEARD + WORK]
    process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.send_signal(signal.SIGUSR2)
    lines = [process.stderr.readline() for _ in range(3)]
    assert lines[0].startswith("Current thread 0x")
    assert lines[1].endswith(" in main\n")
    assert lines[2].endswith(" in run_main\n")
    process.terminate()
    assert process.communicate()[1].endswith("stopped by SIGTERM; run the same command again to go on\n")


def test_a_program_outlives_a_shell(tmp_path):
    process, program = started(tmp_path, "shell")
    process.kill()
    process.wait()
    time.sleep(0.5)
    assert runs(program)
    os.kill(program, signal.SIGKILL)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGHUP"])
def test_a_signal_is_a_sentence_and_its_exit_code(name):
    number = signal.Signals[name]
    words = [sys.executable, "-c", HEARD + WORK]
    process = subprocess.Popen(words, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.send_signal(number)
    assert process.communicate()[1] == f"stopped by {name}; run the same command again to go on\n"
    assert process.returncode == 128 + number


def test_nohup_stays_nohup():
    ignored = f"import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{WORK}"
    process = subprocess.Popen([sys.executable, "-c", ignored], env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.kill()


LOADS = """
import time
from torch.utils.data import DataLoader, Dataset
from apo_soup.errors import run_main
from apo_soup.stops import STOPS, StopAsked
class Rows(Dataset):
    def __len__(self):
        return 10**6
    def __getitem__(self, number):
        time.sleep(0.001)
        return number
def main():
    with STOPS.deferred():
        rows = iter(DataLoader(Rows(), batch_size=20, num_workers=2))
        print(next(rows).sum().item(), flush=True)
        while STOPS.number is None:
            next(rows)
        for _ in range(9):  # the step that is running
            next(rows)
    raise StopAsked(STOPS.number, " after a step")
run_main(main)
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1", "SIGINT"])
def test_a_signal_to_all_processes_of_a_job_leaves_the_step_its_rows(name):
    """As `scancel` and a terminal's Ctrl-C send it: to the workers that load rows, too."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HEARD + LOADS], env=ENVIRONMENT, start_new_session=True, **pipes)
    process.stdout.readline()
    os.killpg(process.pid, signal.Signals[name])
    assert process.communicate(timeout=60)[1].splitlines()[1:] == [
        f"stopped by {name} after a step; run the same command again to go on"
    ]
    assert process.returncode == 128 + signal.Signals[name]


FORKS = WORK.replace(
    "time.sleep(60)",
    "os.fork() or (print(os.getpid(), flush=True), time.sleep(60))\n    print(os.wait()[1], flush=True)",
)


def test_what_is_forked_ends_as_any_process():
    process = subprocess.Popen(
        [sys.executable, "-c", FORKS], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    os.kill(int(process.stdout.readline()), signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == (f"{int(signal.SIGTERM)}\n", "", 0)


ENDS = """
import atexit, sys, time
from apo_soup.errors import UserError, run_main
def slow():
    print("ends", flush=True)
    time.sleep(0.5)
def main():
    atexit.register(slow)
    if sys.argv[1:]:
        raise UserError(sys.argv[1])
run_main(main)
"""


@pytest.mark.parametrize(("words", "code"), [([], 143), (["a mistake"], 2)])
def test_a_signal_at_the_end_of_python_is_no_traceback_and_no_other_code(words, code):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", ENDS, *words], env=ENVIRONMENT, **pipes)
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    told = "".join(f"error: {word}\n" for word in words) + "SIGTERM: the program is at its end; again: stop at once\n"
    assert process.communicate(timeout=20)[1] == told
    assert process.returncode == code
