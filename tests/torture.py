"""Break a run in every way that a machine can, and count what is lost, wrong, left behind or told by a traceback.

    python -m tests.torture              # the rows of the small world: every file-system call, under a minute
    python -m tests.torture --long 100   # and a training, killed and stopped at 100 random moments

A stage of plain files is run in forks of this process. In each, one call that changes the file system is the last one
(`kill -9`), or is refused (disk full, read-only, no permission). Then the folder must be absent or whole, and the same
command must end with the same bytes and leave nothing else.
"""

import argparse
import errno
import hashlib
import json
import os
import random
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
REFUSALS = {"disk full": errno.ENOSPC, "read-only": errno.EROFS, "no permission": errno.EACCES}
FAULTS = ("restarts", "wrong bytes", "half made", "leftovers", "tracebacks", "exit codes")
# Audit events of calls that change a file system, and where their path stands.
CALLS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Calls:
    """Counts the calls below a folder that change it; at one of them something happens."""

    def __init__(self, below: Path, at: int | None = None, happens: Callable[[], None] | None = None):
        self.below, self.at, self.happens, self.count = f"{below}{os.sep}", at, happens, 0

    def __call__(self, event: str, args: tuple) -> None:
        if event == "open":
            path, mode, flags = args
            if not (flags & WRITES if isinstance(flags, int) else set(mode or "") & set("wax+")):
                return
        elif event in CALLS:
            path = args[0]
        else:
            return
        if not isinstance(path, (str, bytes, os.PathLike)):
            return
        if not os.path.abspath(os.fsdecode(path)).startswith(self.below):
            return
        self.count += 1
        if self.count == self.at and self.happens:
            self.happens()


def kill() -> None:
    """As `kill -9` and a machine that fails."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    """As a cluster that takes the machine back."""
    os.kill(os.getpid(), signal.SIGTERM)


def refuse(number: int) -> Callable[[], None]:
    """As a disk that does not take what it is given."""

    def raised() -> None:
        raise OSError(number, os.strerror(number))

    return raised


def run(folder: Path, words: list[str], calls: Calls | None = None) -> tuple[int, str]:
    """Run a module in a fork; returns its exit code and what it wrote to stderr. Of a counting run, the count is left
    in the file `count`.
    """
    told = folder.parent / "stderr"
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.chdir(folder)
            for descriptor, path in ((1, os.devnull), (2, told)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), descriptor)
            sys.argv = words
            sys.orig_argv = ["python", "-m", *words]
            if calls:
                sys.addaudithook(calls)
            try:
                runpy.run_module(words[0], run_name="__main__", alter_sys=True)
            except SystemExit as left:
                code = int(left.code or 0)
            if calls and calls.at is None:
                (folder.parent / "count").write_text(str(calls.count))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    status = os.waitpid(child, 0)[1]
    return os.waitstatus_to_exitcode(status), told.read_text()


def content(folder: Path) -> dict[str, str]:
    """The hash of every file below a folder but the manifest, which holds times; its fingerprint stands for it."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            name = file.relative_to(folder).as_posix()
            data = json.loads(file.read_text())["fingerprint"] if file.name == "manifest.json" else file.read_bytes()
            found[name] = hashlib.sha256(data.encode() if isinstance(data, str) else data).hexdigest()
    return found


def torture_files(
    work: Path, counted: Counter, refusals: dict[str, int] = REFUSALS, say: Callable[[str], None] = print
) -> None:
    """Every call of a stage of plain files: made for the first time, and in the place of an older folder."""
    words = ["apo_soup.toy", "--config", "data.yaml"]
    counts = {"sft_talk": 3, "preference": 2, "heldout_pairs": 2}
    wanted: dict[int, dict[str, str]] = {}
    for seed in (1, 2):
        place = work / f"wanted-{seed}"
        place.mkdir(parents=True)
        (place / "data.yaml").write_text(json.dumps({"output_dir": "run/data", "seed": seed, "counts": counts}))
        assert run(place, words) == (0, ""), "the stage does not run at all"
        wanted[seed] = content(place / "run" / "data")
    for older in (False, True):
        prepared = work / f"prepared-{older}"
        shutil.copytree(work / "wanted-1", prepared)
        if not older:
            shutil.rmtree(prepared / "run")
        (prepared / "data.yaml").write_text((work / "wanted-2" / "data.yaml").read_text())
        place = work / "place"
        happenings: dict[str, tuple[Callable[[], None], tuple[int, ...]]] = {
            "kill -9": (kill, (-signal.SIGKILL,)),
            "SIGTERM": (stop, (128 + signal.SIGTERM,)),
            **{name: (refuse(number), (0, 2)) for name, number in refusals.items()},
        }
        shutil.copytree(prepared, place)
        run(place, words, Calls(place))
        total = int((work / "count").read_text())
        shutil.rmtree(place)
        for name, (happens, codes) in happenings.items():
            faults: Counter = Counter()
            for at in range(1, total + 1):
                shutil.copytree(prepared, place)
                code, told = run(place, words, Calls(place, at, happens))
                folder = place / "run" / "data"
                if code not in codes and not (name == "SIGTERM" and code == 0):
                    faults["exit codes"] += 1
                    say(f"{name} at call {at}: exit {code}: {told.strip()[-300:]}")
                if "Traceback" in told:
                    faults["tracebacks"] += 1
                    say(f"{name} at call {at}: {told.strip()[-600:]}")
                if folder.exists() and content(folder) not in (wanted[2], *([wanted[1]] if older else [])):
                    faults["half made"] += 1
                again, told = run(place, words)
                if again or "Traceback" in told:
                    faults["restarts"] += 1
                    say(f"{name} at call {at}, then again: exit {again}: {told.strip()[-600:]}")
                elif content(folder) != wanted[2]:
                    faults["wrong bytes"] += 1
                    say(f"{name} at call {at}: {set(content(folder).items()) ^ set(wanted[2].items())}")
                left = sorted(f.name for f in (place / "run").iterdir() if f.name != "data")
                if left:
                    faults["leftovers"] += 1
                    say(f"{name} at call {at}: left {', '.join(left)}")
                shutil.rmtree(place)
            told = ", ".join(f"{faults[fault]} {fault}" for fault in FAULTS)
            say(f"files, {'in the place of an older folder' if older else 'new'}, {name}: {total} calls: {told}")
            counted.update(faults)
            counted["tries"] += total


def torture_training(work: Path, tries: int, counted: Counter, say: Callable[[str], None] = print) -> None:
    """A training of the embedded base, killed and stopped at random moments until it ends, again and again."""
    asked = [
        ({"role": "user", "content": f"{a} + {a}?"}, {"role": "assistant", "content": f"{2 * a}"}) for a in range(64)
    ]
    mode = {"chat_template_kwargs": {"enable_thinking": False}}
    work.mkdir(parents=True)
    (work / "rows.jsonl").write_text("\n".join(json.dumps({"messages": turns} | mode) for turns in asked))
    values = {
        "model_name_or_path": str(ROOT / "recipes/tiny/base"), "chat_template": "apo-soup", "dtype": "float32",
        "bf16": False, "use_cpu": True, "gradient_checkpointing": False, "learning_rate": 1e-4, "max_length": 64,
        "packing": False, "per_device_train_batch_size": 2, "max_steps": 15, "save_strategy": "steps", "save_steps": 2,
        "save_total_limit": 1, "logging_steps": 4, "seed": 1, "dataset_mixture": {"datasets": [{"id": "rows.jsonl"}]},
    }  # fmt: skip
    (work / "sft.yaml").write_text(json.dumps(values | {"output_dir": "run/sft"}))
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    words = [sys.executable, "-m", "sft", "--config", "sft.yaml"]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            words, cwd=work, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )

    begun = time.monotonic()
    assert start().wait() == 0
    seconds, folder = time.monotonic() - begun, work / "run" / "sft"
    wanted = content(folder)["model.safetensors"]
    shutil.rmtree(folder)
    draw = random.Random(0)
    for _ in range(tries):
        running = start()
        number = draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT))
        try:
            code = running.wait(draw.uniform(0.2, 1.1) * seconds)
        except subprocess.TimeoutExpired:
            running.send_signal(number)
            code = running.wait()
        told = running.stderr.read() if running.stderr else ""
        counted["tries"] += 1
        allowed = (0, -number, 128 + number)
        if code not in allowed:
            counted["restarts"] += 1
            say(f"exit {code} after {signal.Signals(number).name}: {told[-600:]}")
        if "Traceback" in told and code not in allowed:
            counted["tracebacks"] += 1
        if folder.exists():
            if content(folder)["model.safetensors"] != wanted:
                counted["wrong bytes"] += 1
            left = sorted(f.name for f in folder.parent.iterdir() if f.name not in ("sft", "prepared"))
            if left and code == 0:
                counted["leftovers"] += 1
            shutil.rmtree(folder)
    say(f"training: {tries} tries: " + ", ".join(f"{counted[fault]} {fault}" for fault in FAULTS))


def main() -> int:
    """Run what was asked; returns 1 where anything was lost, wrong or left."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--long", type=int, default=0, metavar="N", help="also stop a training at N random moments")
    options = parser.parse_args()
    counted: Counter = Counter()
    sys.path.insert(0, str(ROOT))
    import apo_soup.runs.entry  # noqa: F401  once, for all forks

    with tempfile.TemporaryDirectory() as work:
        torture_files(Path(work).resolve() / "files", counted)
        if options.long:
            torture_training(Path(work).resolve() / "training", options.long, counted)
    print(f"{counted['tries']} tries: " + ", ".join(f"{counted[fault]} {fault}" for fault in FAULTS))
    return int(any(counted[fault] for fault in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
