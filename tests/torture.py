"""Break a run in every way that a machine can, and count what is lost, wrong, left behind or told by a traceback.

    python -m tests.torture                       # the rows of the small world: every file-system call, under a minute
    python -m tests.torture --long 3              # every stage of a small run, three times in every way
    python -m tests.torture --long 3 --only 'sft;apo'
    python -m tests.torture --long 100 --only sft --ways 'killed;at_calls' --seed 1

A stage of plain files is run in forks of this process. In each, one call that changes the file system is the last one
(`kill -9`), or is refused (disk full, read-only, no permission). Then the folder must be absent or whole, and the same
command must end with the same bytes and leave nothing else.
"""

import argparse
import errno
import hashlib
import json
import os
import runpy
import shutil
import signal
import sys
import tempfile
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

    def __init__(self, below: Path, at: int | None = None, happens: Callable[[object], None] | None = None):
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
            self.happens(path)


def kill(path: object = None) -> None:
    """As `kill -9` and a machine that fails."""
    os.kill(os.getpid(), signal.SIGKILL)


def stop(path: object = None) -> None:
    """As a cluster that takes the machine back."""
    os.kill(os.getpid(), signal.SIGTERM)


def refuse(number: int) -> Callable[[object], None]:
    """As a disk that does not take what it is given."""

    def raised(path: object) -> None:
        raise OSError(number, os.strerror(number), os.fsdecode(path))  # type: ignore[arg-type]  # a path, as any call's

    return raised


HAPPENINGS = {"nothing": None, "kill": kill} | {name: refuse(number) for name, number in REFUSALS.items()}


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
        happenings: dict[str, tuple[Callable[[object], None], tuple[int, ...]]] = {
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


def main() -> int:
    """Run what was asked; returns 1 where anything was lost, wrong or left."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--long", type=int, default=0, metavar="N", help="break every stage N times in every way")
    parser.add_argument("--only", default="", metavar="'A;B'", help="of --long these stages alone, such as 'sft;apo'")
    ways = "of --long in these ways alone, named as in torture_stages.py, such as 'killed;at_calls'"
    parser.add_argument("--ways", default="", metavar="'A;B'", help=ways)
    parser.add_argument("--seed", type=int, default=0, help="of what --long draws")
    options = parser.parse_args()
    counted: Counter = Counter()
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    if options.long:
        from torture_stages import torture_stages

        only, chosen = ([name for name in text.split(";") if name] for text in (options.only, options.ways))
        return int(torture_stages(options.long, only, chosen, options.seed) > 0)
    import apo_soup.runs.entry  # noqa: F401  once, for all forks

    with tempfile.TemporaryDirectory() as work:
        torture_files(Path(work).resolve() / "files", counted)
    print(f"{counted['tries']} tries: " + ", ".join(f"{counted[fault]} {fault}" for fault in FAULTS))
    return int(any(counted[fault] for fault in FAULTS))


if __name__ == "__main__":
    sys.exit(main())
