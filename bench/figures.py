"""How a benchmark's figures are measured and written down."""

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def measured(seconds: float, tokens: int) -> dict:
    """A result line: seconds, tokens, and the peak memory of this process and its largest child."""
    import resource

    peaks = [resource.getrusage(who).ru_maxrss // 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {"seconds": round(seconds, 2), "tokens": tokens, "peak_mb": peaks[0], "peak_child_mb": peaks[1]}


def in_turns(options: argparse.Namespace, program: str, contestants: Sequence[str]) -> dict[str, list[dict]]:
    """Run each contestant of a benchmark `repeats` times, in turns, in a process of its own with `threads` threads.

    Args:
        options: the benchmark's, which its own `--one=NAME` takes too.

    Returns:
        The result lines of each.
    """
    runs: dict[str, list[dict]] = {name: [] for name in contestants}
    words = [f"--{k}={v}" for k, v in vars(options).items() if v is not None and k != "one"]
    environment = os.environ | {"OMP_NUM_THREADS": str(options.threads), "HF_HUB_OFFLINE": "1"}
    for _ in range(options.repeats):
        for name in contestants:
            result = subprocess.run(
                [sys.executable, "-m", f"bench.{program}", f"--one={name}", *words],
                stdout=subprocess.PIPE, text=True, check=True, env=environment,
            )  # fmt: skip
            runs[name].append(json.loads(result.stdout.splitlines()[-1]))
            print(f"{name:6} {runs[name][-1]}", flush=True)
    return runs


def command(options: argparse.Namespace, program: str) -> str:
    """The command line that gives these figures again; files by their names, wherever they lay."""
    given = {k: v for k, v in vars(options).items() if v is not None and k != "one"}
    given |= {k: Path(given[k]).name for k in ("rows", "set") if k in given}
    return f"python -m bench.{program} " + " ".join(f"--{k} {v}" for k, v in given.items())


def save(output: str, content: dict) -> None:
    """Write the figures with the machine they were taken on."""
    from apo_soup.runs.manifest import versions

    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    file = Path(output)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**content, "machine": machine, "versions": versions()}, indent=2) + "\n")
