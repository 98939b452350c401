"""Every stage of a small run, stopped, refused, doubled and damaged in every way: `python -m tests.torture --long N`.

The stages are made once, in their order. Each try begins with a copy of that run without what the stage makes, breaks
the stage in one way, and gives the same command again: it must end with the files of the run that nothing broke, and
leave no other. Programs are forks of a process that has imported the libraries (`preloaded.py`).
"""

import contextlib
import functools
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from subprocess import CompletedProcess

from helpers import ENVIRONMENT
from programs import Programs, two_ranks
from torture import FAULTS, REFUSALS, ROOT
from tortured_run import STAGES, Tried, below, damage, essence, is_as_recorded, mounted, remount, write_recipe

# Seconds that a stage may need to end, on a machine that has others at work: Python looks at signals between its own
# steps, and to load torch is one.
ORPHANS_END = 300.0
SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
BROKEN = """
import os, sys
from pathlib import Path
sys.path.insert(1, sys.argv[1])
from torture import HAPPENINGS, Calls
happens, at, told, *words = sys.argv[2:]
calls = Calls(Path.cwd() / "run", int(at) or None, HAPPENINGS[happens])
sys.argv, sys.orig_argv = words, ["python", "-m", *words]
import runpy
sys.addaudithook(calls)
try:
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
finally:
    calls.at = 0
    Path(told).write_text(str(calls.count))
"""
CONFIGURED = "import os, resource, runpy, sys\n"
CONFIGURED += "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))\n"
CONFIGURED += "sys.argv = sys.argv[2:]\nsys.orig_argv = ['python', '-m', *sys.argv]\n"
CONFIGURED += "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\n"


class Torture:
    """Tries of one stage, counted by the way it is broken.

    Args:
        whole: the folder of a run that nothing broke.
        place: where a try is made.
    """

    def __init__(self, stage: Tried, whole: Path, place: Path, draw: random.Random, say: Callable[[str], None]):
        self.stage, self.whole, self.place, self.draw, self.say = stage, whole, place, draw, say
        self.counted: dict[str, Counter] = {}
        self.way = ""
        self.files = {name for name in below(whole / "run") if self._is_made(name)}
        self.seconds = 0.0

    def _is_made(self, name: str) -> bool:
        above = (Path(name), *Path(name).parents)
        return any(fnmatch(str(path), pattern) for path in above for pattern in self.stage.makes)

    @contextlib.contextmanager
    def a_try(self, way: str) -> Iterator[None]:
        """A folder in which everything is there but what the stage makes."""
        self.way = way
        self.counted.setdefault(way, Counter())["tries"] += 1
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        self.fill()
        yield
        shutil.rmtree(self.place, ignore_errors=True)

    def fill(self) -> None:
        """Copy the run, less what the stage makes."""
        shutil.copytree(self.whole, self.place, dirs_exist_ok=True)
        for pattern in self.stage.makes:
            for made in (self.place / "run").glob(pattern):
                shutil.rmtree(made) if made.is_dir() else made.unlink()

    def start(self, code: str | None = None, *words: str) -> Programs:
        """The stage's program, or code that becomes it."""
        started = ("-m", *self.stage.words) if code is None else ("-c", code, *words, *self.stage.words)
        return Programs(*started, cwd=self.place)

    def broken(self, happens: str, at: int) -> CompletedProcess:
        """Run it with something that happens at a call that changes the run's folder."""
        return self.start(BROKEN, str(ROOT / "tests"), happens, str(at), str(self.place.parent / "count")).wait()

    def calls(self) -> int:
        """How many such calls there are."""
        self.fill_anew()
        self.broken("nothing", 0)
        return int((self.place.parent / "count").read_text())

    def fill_anew(self) -> None:
        """Begin again in the same folder."""
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        self.fill()

    def fault(self, kind: str, told: str) -> None:
        """Count one."""
        self.counted[self.way][kind] += 1
        self.say(f"{self.stage.name}, {self.way}: {kind}: {told.strip()[-700:]}")

    def coded(self, result: CompletedProcess, *codes: int) -> None:
        """Hold the end of a broken run to the codes that it may have."""
        if result.returncode not in codes:
            self.fault("exit codes", f"{result.returncode}: {result.stderr}")
        if "Traceback" in result.stderr:
            self.fault("tracebacks", result.stderr)

    def ended(self, result: CompletedProcess, *codes: int) -> None:
        """The same, and hold the files to being absent or whole."""
        self.coded(result, *codes)
        for pattern in self.stage.makes:
            for folder in (self.place / "run").glob(pattern):
                if folder.is_dir() and self.differing(folder):
                    self.fault("half made", f"{folder}: {self.differing(folder)}")

    def differing(self, folder: Path) -> list[str]:
        """The files of a made folder that are not those of the run that nothing broke; checkpoints aside."""
        run = self.place / "run"
        names = {name for name in self.files if (run / name).is_relative_to(folder)}
        return [name for name in sorted(names) if not self.same(name)] if folder.exists() else []

    def same(self, name: str) -> bool:
        """Whether a file is as in the run that nothing broke."""
        file = self.place / "run" / name
        return file.is_file() and essence(file) == essence(self.whole / "run" / name)

    def again(self) -> None:
        """The same command: it must end with all files as they are to be, and no other."""
        newest = self.newest_checkpoint()
        result = self.start().wait()
        if result.returncode or "Traceback" in result.stderr:
            self.fault("restarts", f"{result.returncode}: {result.stderr}")
            return
        if newest and f"going on from step {newest} of" not in result.stdout and "up to date" not in result.stdout:
            self.fault("lost checkpoints", f"not step {newest}: {result.stdout}")
        wrong = [name for name in sorted(self.files) if not self.same(name)]
        if wrong:
            self.fault("wrong bytes", ", ".join(wrong))
        left = below(self.place / "run") - below(self.whole / "run")
        if left:
            self.fault("leftovers", ", ".join(sorted(left)))

    def newest_checkpoint(self) -> int:
        """The step of the newest sound checkpoint, 0 where there is none."""
        if not self.stage.partial:
            return 0
        checkpoints = (self.place / "run").glob(f"{self.stage.partial}/checkpoint-*")
        return max((int(each.name.partition("-")[2]) for each in checkpoints if is_as_recorded(each)), default=0)

    def moment(self) -> float:
        """Seconds into the stage."""
        return self.draw.uniform(0.0, 1.05 * self.seconds)

    def signalled(self, running: Programs, number: int, after: float, who: int = 0) -> CompletedProcess:
        """Send a signal after some time."""
        time.sleep(after)
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.ids[who], number)
        return running.wait()

    def run(self, tries: int, ways: list[str]) -> None:
        """Break it in every way, or in those of these names, each so many times."""
        assert self.files, f"{self.stage.name} makes nothing"
        with self.a_try("nothing"):
            begun = time.monotonic()
            self.start().wait()
            self.seconds = time.monotonic() - begun
            total = self.calls()
        del self.counted["nothing"]
        every: dict[str, Callable[[], None]] = {
            way.__name__: functools.partial(way, total)
            for way in (self.killed, self.stopped, self.at_calls, self.doubled, self.without_room, self.damaged)
        }
        if self.stage.partial:
            every |= {way.__name__: way for way in (self.checkpoint_damaged, self.mark_damaged, self.orphaned)}
            every["ranks"] = functools.partial(self.ranks, "two ranks", "-m", *self.stage.words)
        if self.stage.name == "sft":
            fsdp = str(ROOT / "tests" / "fsdp_on_cpu.py")
            every["sharded"] = functools.partial(self.ranks, "two ranks of FSDP2", fsdp, *self.stage.words)
        for name, way in every.items():
            for _ in range(tries if not ways or name in ways else 0):
                way()

    def killed(self, total: int) -> None:
        """`kill -9` at a random moment."""
        with self.a_try("kill -9, any moment"):
            self.ended(self.signalled(self.start(), signal.SIGKILL, self.moment()), 0, -signal.SIGKILL)
            self.again()

    def stopped(self, total: int) -> None:
        """A signal that asks it to end. 0: it had ended. 128 and the number: promised. The number itself: the signal
        came before the program's first line, or when Python had taken its handlers away; no work was under way.
        """
        number = self.draw.choice(SIGNALS)
        with self.a_try("signals, any moment"):
            result = self.signalled(self.start(), number, self.moment())
            if not interrupted_at_import(result):
                self.ended(result, 0, 128 + number, -number)
            self.again()

    def at_calls(self, total: int) -> None:
        """The last call that it makes, and one that is refused: half of them among the last twenty. 0: a file that
        nothing depends on, such as the name of who holds a lock. 2: one sentence.
        """
        for happens in ("kill", *REFUSALS):
            at = (
                self.draw.randint(1, total)
                if self.draw.random() < 0.5
                else self.draw.randint(max(1, total - 20), total)
            )
            with self.a_try("kill -9 at a call" if happens == "kill" else f"{happens} at a call"):
                self.ended(self.broken(happens, at), *((-signal.SIGKILL,) if happens == "kill" else (0, 2)))
                self.again()

    def doubled(self, total: int) -> None:
        """Started twice. The second is refused with 2, or waits and finds all done."""
        with self.a_try("twice at once"):
            # One group, so that both are forked at once.
            both = Programs("-m", *self.stage.words, cwd=self.place, environments=({}, {}), apart=True)
            result = both.wait()
            self.ended(result, 0, 2)
            if 0 not in both.codes:
                self.fault("exit codes", f"none of the two made it: {result.stderr}")
            elif any(not self.same(name) for name in self.files):
                self.fault("half made", f"{both.codes}: {result.stdout}{result.stderr}")
            self.again()

    def without_room(self, total: int) -> None:
        """A file that cannot grow; a disk that is too small; one that is read-only."""
        largest = max((self.whole / "run" / name).stat().st_size for name in self.files)
        with self.a_try("no file may grow"):
            self.ended(self.start(CONFIGURED, str(self.draw.randint(1, largest))).wait(), 0, 2)
            self.again()
        if os.getuid():
            return
        for way in ("a small disk", "a read-only disk"):
            with self.a_try(way), mounted(self.place):
                self.fill()
                disk = os.statvfs(self.place)
                used = (disk.f_blocks - disk.f_bfree) * disk.f_frsize
                more = sum((self.whole / "run" / name).stat().st_size for name in self.files)
                room = used + 4096 + self.draw.uniform(0.0, 1.0) * more
                remount(self.place, f"size={int(room)}" if way == "a small disk" else "ro")
                self.ended(self.start().wait(), 0, 2)
                remount(self.place, "size=1g" if way == "a small disk" else "rw")
                self.again()

    def damaged(self, total: int) -> None:
        """A finished folder of which a file is cut, changed, emptied or gone."""
        with self.a_try("a damaged file"):
            shutil.copytree(self.whole, self.place, dirs_exist_ok=True)
            # Prepared rows are no part of a finished training, which does not read them again.
            own = sorted(
                name for name in self.files if self.stage.name == "prepare" or not name.startswith("prepared/")
            )
            file = self.place / "run" / self.draw.choice(own)
            damage(file, self.draw)
            result = self.start().wait()
            if result.returncode == 2 and file.name in ("manifest.json", "results.json"):
                shutil.rmtree(file.parent)  # as the sentence says
            elif result.returncode:
                self.fault("exit codes", f"{file}: {result.returncode}: {result.stderr}")
            if "Traceback" in result.stderr:
                self.fault("tracebacks", f"{file}: {result.stderr}")
            self.again()

    def killed_behind_a_checkpoint(self) -> Path:
        """Kill the training as soon as it has a checkpoint; returns where that lies."""
        running = self.start()
        partial = self.place / "run" / str(self.stage.partial)
        while running.running() and not any(partial.glob("checkpoint-*/whole")):
            time.sleep(0.002)
        with contextlib.suppress(ProcessLookupError):
            running.kill()
        running.wait()
        return partial

    def checkpoint_damaged(self) -> None:
        """A training that was killed behind a checkpoint, of which a file is then damaged."""
        with self.a_try("a damaged checkpoint"):
            partial = self.killed_behind_a_checkpoint()
            for checkpoint in sorted(partial.glob("checkpoint-*"))[-1:]:
                files = sorted(file for file in checkpoint.rglob("*") if file.is_file())
                damage(self.draw.choice(files), self.draw)
            self.again()

    def mark_damaged(self) -> None:
        """The same, and what is damaged is the mark that says with what the training was begun: it refuses, and goes on
        when the mark is put back, as the sentence says.
        """
        with self.a_try("a damaged begun.json"):
            mark = self.killed_behind_a_checkpoint() / "begun.json"
            written = mark.read_bytes() if mark.is_file() else b""  # none where it had ended
            if written:
                damage(mark, self.draw)
                changed = not mark.is_file() or mark.read_bytes() != written
                result = self.start().wait()
                self.coded(result, 2 if changed else 0)
                if changed and f"{mark.parent.name}/begun.json: " not in result.stderr:
                    self.fault("exit codes", f"without the name of the mark: {result.stderr}")
                if changed and mark.parent.is_dir():
                    mark.write_bytes(written)
            self.again()

    def orphaned(self) -> None:
        """Its launcher is killed: the stage must end by itself, as on SIGTERM."""
        with self.a_try("its launcher is killed"):
            launcher = self.place.parent / "accelerate"
            launcher.write_text("import subprocess, sys\nsubprocess.run([sys.executable, *sys.argv[1:]])")
            words = [sys.executable, str(launcher), "-m", *self.stage.words]
            none = subprocess.DEVNULL
            process = subprocess.Popen(words, cwd=self.place, env=ENVIRONMENT, stdout=none, stderr=none)
            time.sleep(2.0 + self.draw.uniform(0.0, 10.0))
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            stages = children.read_text().split() if children.exists() else []
            process.kill()
            process.wait()
            last = time.monotonic() + ORPHANS_END
            while any(Path(f"/proc/{stage}").exists() for stage in stages):
                if time.monotonic() > last:
                    self.fault("leftovers", f"process {stages} lives on")
                    break
                time.sleep(0.05)
            self.again()

    def ranks(self, name: str, *words: str) -> None:
        """Two processes, of which one is killed, or gets a signal. A rank that is killed leaves the other to the
        launcher, which sends SIGTERM: its collective may break first, with torch's own words.
        """
        for number in (signal.SIGKILL, signal.SIGTERM):
            with self.a_try(f"{name}, {number.name} to one"):
                running = two_ranks(*words, cwd=self.place)
                result = self.signalled(running, number, 1.5 * self.moment(), self.draw.randint(0, 1))
                if number != signal.SIGKILL:
                    self.coded(result, 0, 128 + number, -number)  # two ranks' weights are not those of one
                result = two_ranks(*words, cwd=self.place).wait()
                if result.returncode or "Traceback" in result.stderr:
                    self.fault("restarts", f"{result.returncode}: {result.stderr}")


def interrupted_at_import(result: CompletedProcess) -> bool:
    """Whether an interrupt came while Python was reading the program's modules: Python's own traceback tells of it, and
    nothing of ours has begun.
    """
    return result.stderr.rstrip().endswith("KeyboardInterrupt") and "in run_main" not in result.stderr


def torture_stages(
    tries: int, only: list[str], ways: list[str], seed: int = 0, say: Callable[[str], None] = print
) -> int:
    """Make the run, break each stage, print a table of faults and tries; returns how many faults there were."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as work:
        whole, place = (Path(work).resolve() / name / "recipe" for name in ("whole", "place"))
        whole.mkdir(parents=True)
        place.parent.mkdir()  # of one name: a report tells the recipe's
        write_recipe(whole)
        chosen = [stage for stage in STAGES if not only or stage.name in only]
        assert chosen, f"no stage of {', '.join(stage.name for stage in STAGES)} is among {only}"
        needed = STAGES[: STAGES.index(chosen[-1]) + 1]
        for words in (("apo_soup.toy", "--config", "data.yaml"), *(stage.words for stage in needed)):
            result = Programs("-m", *words, cwd=whole).wait()
            assert result.returncode == 0, f"{words}: {result.stderr}"
        cells: dict[str, dict[str, tuple[int, int]]] = {}
        for stage in chosen:
            torture = Torture(stage, whole, place, draw, say)
            torture.run(tries, ways)
            kinds = (*FAULTS, "lost checkpoints")
            total: Counter = sum(torture.counted.values(), Counter())
            told = ", ".join(f"{total[kind]} {kind}" for kind in kinds)
            say(f"{stage.name}, {torture.seconds:.1f} s: {total['tries']} tries: {told}")
            for way, counted in torture.counted.items():
                found = sum(counted[kind] for kind in kinds)
                cells.setdefault(way, {})[stage.name] = found, counted["tries"]
        names = [stage.name for stage in chosen]
        say(f"| faults of tries | {' | '.join(names)} |")
        say("|---" * (1 + len(names)) + "|")
        for way, of_way in cells.items():
            shown = ("{} of {}".format(*of_way[name]) if name in of_way else "" for name in names)
            say(f"| {way} | {' | '.join(shown)} |")
    return sum(found for of_way in cells.values() for found, _ in of_way.values())
