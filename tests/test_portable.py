"""No call that only Linux has fails where it is not there: at import, and when a program begins and ends."""

from programs import program

# A process that has imported the libraries, which see to themselves.
ELSEWHERE = """
import importlib, os, pkgutil, signal, sys
LINUX = ("fcntl", "resource", "pwd", "grp", "termios", "ctypes")
for name in LINUX:
    sys.modules[name] = None
gone = {os: ("sched_getaffinity", "sched_setaffinity", "getuid", "geteuid", "fork", "register_at_fork", "statvfs"),
        signal: ("SIGUSR1", "SIGUSR2", "SIGHUP", "SIGKILL", "SIGXFSZ", "pthread_sigmask")}
for module, names in gone.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
sys.platform = "darwin"
count = 0
for package in ("apo_soup", "sft", "apo", "merge"):
    package = importlib.import_module(package)
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if found.name.rpartition(".")[2] != "__main__":
            try:
                importlib.import_module(found.name)
                count += 1
            except ModuleNotFoundError as error:  # of an extra, such as vllm
                if error.name in LINUX or error.name.startswith("apo_soup"):
                    raise
print(count)
from apo_soup.errors import run_main
from apo_soup.runs.manifest import peak_memory_mb
from apo_soup.stops import STOPS
def main():
    with STOPS.deferred("a step ends"):
        print(peak_memory_mb())
run_main(main)
"""


def test_modules_are_imported_and_a_program_runs_without_what_only_linux_has():
    result = program("-c", ELSEWHERE)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.splitlines()[0]) > 200
