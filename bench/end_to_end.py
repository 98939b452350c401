"""Base to merged model by TRL's and mergekit's own commands, and by this project's one: the same base, rows and steps.

    python -m bench.end_to_end [--mid 120 --sft 60 --apo 40] [--threads 2] [--folder FOLDER]

The recipe is `recipes/tiny`, shortened to so many steps of each training and altered where one side cannot follow: no
synthetic pairs and no sweep, which TRL and mergekit do not have, no rows held out, and mid packed by `bfd`, since
documents of TRL's `wrapped` see each other. The peer is what lies in `bench/peer`: a file for each training and merge,
and eight commands, with packing, masks of the assistant's words by the template's generation marks, and reference
log-probabilities computed once. Both have so many threads and a cache of their own that is empty.

Rows are made once for both, and not counted. Three things are compared:

- the losses of four steps of each training from the base, not packed, each on the same eight rows, drawn
  evenly from its joined files, which leaves the short ones out;
- wall time and seconds of the processor of each command with all that it starts, and the most memory of any process;
- what our suite scores on mid, sft and merged, with the interval of the differences over items. Packed rows come in
  another order, so two right trainings differ by more than the items' noise.

What a person writes is counted in files, commands, and lines of the files as one writer of YAML sets them.
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from bench.figures import save

ROOT = Path(__file__).parents[1]
RECIPE, PEER = ROOT / "recipes" / "tiny", ROOT / "bench" / "peer"
LAUNCH = ROOT / "recipes" / "accelerate" / "cpu.yaml"
TRAININGS = ("mid", "sft", "apo")
# Runs a command and writes what it and all that it starts took. A small process of its own: the memory that the system
# tells of a child counts its parent's too, up to the moment when the child becomes another program.
METER = """
import json, resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
with open(sys.argv[1], "w") as file:
    json.dump([used.ru_utime + used.ru_stime, used.ru_maxrss], file)
sys.exit(code if code >= 0 else 128 - code)
"""
MODELS = ("mid", "sft", "merged")
# The tasks of the recipe's suite that score both, and the most items of each.
TASKS, ITEMS = ("problems", "tools", "requests", "needle", "preference", "think_preference"), 180
# Steps whose losses are compared, and the rows of each.
FIRST, FIRST_ROWS = 4, 8


def main() -> None:
    """Run both sides, compare, print tables and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mid", type=int, default=120, help="steps")
    parser.add_argument("--sft", type=int, default=60)
    parser.add_argument("--apo", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", help="where both sides lie; one that is not there")
    parser.add_argument("--output", default="bench/results/end_to_end.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as aside:
        folder = Path(options.folder or aside).resolve() / "end_to_end"
        if folder.exists():
            parser.error(f"--folder: expected one without {folder.name}, got {folder}, which is there; name another")
        folder.mkdir(parents=True)
        steps = {name: getattr(options, name) for name in TRAININGS}
        result = compared(folder, steps, options.threads)
    options.folder = None
    words = " ".join(f"--{name} {value}" for name, value in (*steps.items(), ("threads", options.threads)))
    save(options.output, {"command": f"python -m bench.end_to_end {words}", "steps": steps, **result})
    print("\n".join(told(result)))


def compared(folder: Path, steps: dict[str, int], threads: int) -> dict[str, Any]:
    """Everything that is measured, in a folder that is empty."""
    environment = os.environ | {
        "OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT),
        "HF_HOME": str(folder / "cache"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TOKENIZERS_PARALLELISM": "true",
    }  # fmt: skip
    recipe, peer = our_side(folder / "ours", steps), peer_side(folder / "peer", steps)
    ours_at, log = folder / "ours", folder / "log.txt"
    program = [sys.executable, "-m", "apo_soup"]
    measured_command([*program, "run", "data", str(recipe), "--launch", str(LAUNCH)], ours_at, environment, log)
    run = ours_at / "runs" / "tiny"
    (peer / "data").symlink_to(run / "data")
    (peer / "base").symlink_to(recipe / "base")
    losses = {name: first_losses(name, recipe, peer, environment, log) for name in TRAININGS}
    print(json.dumps({"first losses": losses}), flush=True)
    sides: dict[str, list[dict[str, Any]]] = {}
    for name, cwd, commands in (
        ("ours", ours_at, [[*program, "run", "merge", str(recipe), "--launch", str(LAUNCH)]]),
        ("peer", peer, [["bash", "-c", line] for line in (peer / "commands.txt").read_text().splitlines()]),
    ):
        sides[name] = []
        for words in commands:
            sides[name].append(measured_command(words, cwd, environment, log))
            print(name, json.dumps(sides[name][-1]), flush=True)
    places = {"ours": run, "peer": peer}
    models = {f"{side}-{name}": str(place / name) for side, place in places.items() for name in MODELS}
    suite = suite_of(recipe, run, models, folder / "evals")
    (folder / "suite.yaml").write_text(yaml.safe_dump(suite))
    measured_command([*program, "eval", "--config", str(folder / "suite.yaml")], folder, environment, log)
    return {
        "first_losses": losses,
        "commands": sides,
        "totals": {name: totals(found) for name, found in sides.items()},
        "written": {
            "ours": written([recipe / f"{name}.yaml" for name in ("recipe", *TRAININGS, "merge")], 1),
            "peer": written(sorted(peer.glob("*.yaml")), len(sides["peer"])),
        },
        "tokens": {"ours": our_tokens(run), "peer": peer_tokens(log.read_text())},
        "scores": {name: differences(folder / "evals", name) for name in MODELS},
    }


def row_files(recipe: Path, name: str) -> list[str]:
    """The files of rows of a training, in their order."""
    mixture = yaml.safe_load((recipe / f"{name}.yaml").read_text())["dataset_mixture"]
    return [entry["id"] for entry in mixture["datasets"]]


def our_side(folder: Path, steps: dict[str, int]) -> Path:
    """A copy of the recipe as both sides can do it."""
    recipe = folder / "recipes" / "tiny"
    shutil.copytree(RECIPE, recipe)
    for name in ("pairs", "tuning", "base"):
        (recipe / f"{name}.yaml").unlink()
    for name in TRAININGS:
        with changed(recipe / f"{name}.yaml") as keys:
            keys["max_steps"] = steps[name]
            keys["save_strategy"] = "no"
            for key in ("save_steps", "save_total_limit"):
                keys.pop(key)
            mixture = keys["dataset_mixture"]
            mixture.pop("test_split_size", None)
            mixture["datasets"] = [entry for entry in mixture["datasets"] if entry["id"].startswith("data/")]
            if name == "mid":
                keys["packing_strategy"] = "bfd"
    with changed(recipe / "merge.yaml") as keys:
        keys.pop("sweep")
    with changed(recipe / "eval.yaml") as keys:
        keys["tasks"] = [task | {"limit": ITEMS} for task in keys["tasks"] if task["name"] in TASKS]
    with changed(recipe / "recipe.yaml") as keys:
        keys.pop("claims")
    return recipe


def peer_side(folder: Path, steps: dict[str, int]) -> Path:
    """A copy of the peer's files with these steps."""
    shutil.copytree(PEER, folder)
    for name in TRAININGS:
        with changed(folder / f"{name}.yaml") as keys:
            keys["max_steps"] = steps[name]
    return folder


class changed:  # noqa: N801  # read as `with changed(file) as keys`
    """The keys of a YAML file, written back when they have been changed."""

    def __init__(self, file: Path):
        self.file = file

    def __enter__(self) -> dict[str, Any]:
        self.keys: dict[str, Any] = yaml.safe_load(self.file.read_text())
        return self.keys

    def __exit__(self, *_: object) -> None:
        self.file.write_text(yaml.safe_dump(self.keys, sort_keys=False))


def measured_command(words: list[str], cwd: Path, environment: dict[str, str], log: Path) -> dict[str, Any]:
    """Run a command to its end; its seconds, those of the processor, and the most memory of any of its processes.

    Raises:
        CalledProcessError: it failed; its output is in the log.
    """
    load = os.getloadavg()[0]
    named = [word if not Path(word).is_absolute() else Path(word).name for word in words]
    shown = named[2] if named[:2] == ["bash", "-c"] else shlex.join(named)
    with log.open("a") as out:
        out.write(f"$ {shown}\n")
        out.flush()
        started = time.monotonic()
        meter = [sys.executable, "-S", "-c", METER, str(log.with_suffix(".used")), *words]
        code = subprocess.run(meter, cwd=cwd, env=environment, stdout=out, stderr=out, check=False).returncode
        seconds = time.monotonic() - started
    if code:
        raise subprocess.CalledProcessError(code, words, f"see {log}")
    processor, peak = json.loads(log.with_suffix(".used").read_text())
    return {
        "command": shown,
        "seconds": round(seconds, 1),
        "processor_seconds": round(processor, 1),
        "peak_mb": peak // 1024,
        "load": round(load, 2),
    }


def totals(commands: list[dict[str, Any]]) -> dict[str, float]:
    """The sums of the seconds of commands that run one after another, and the largest peak."""
    return {
        "seconds": round(sum(one["seconds"] for one in commands), 1),
        "processor_seconds": round(sum(one["processor_seconds"] for one in commands), 1),
        "peak_mb": max(one["peak_mb"] for one in commands),
    }


def written(files: list[Path], commands: int) -> dict[str, int]:
    """How many files and commands a person writes, and the lines of the files without comments, in one layout."""
    lines = [yaml.safe_dump(yaml.safe_load(file.read_text()), default_flow_style=None, width=120) for file in files]
    return {"files": len(files), "commands": commands, "lines": sum(text.count("\n") for text in lines)}


def first_losses(name: str, recipe: Path, peer: Path, environment: dict[str, str], log: Path) -> dict[str, list[float]]:
    """The losses of the first steps of a training from the base by both, each step on the same few rows."""
    rows = peer / f"first-{name}.jsonl"
    lines = [line for file in row_files(recipe, name) for line in (peer / file).read_text().splitlines(keepends=True)]
    rows.write_text("".join(lines[:: -(-len(lines) // FIRST_ROWS)]))
    kind, module, member = ("dpo", "apo", ["--member", "1"]) if name == "apo" else ("sft", "sft", [])
    common = ["--max_steps", str(FIRST), "--logging_steps", "1", "--per_device_train_batch_size", str(FIRST_ROWS)]
    common += ["--packing", "false"] if kind == "sft" else []
    where = recipe.parents[1] / "first" / name
    mixture = json.dumps({"datasets": [{"id": str(rows)}]})
    words = [sys.executable, "-m", module, "--config", str(recipe / f"{name}.yaml"), *member, *common]
    words += ["--global_batch_size", str(FIRST_ROWS), "--dataset_mixture", mixture, "--output_dir", str(where)]
    measured_command([*words, "--model_name_or_path", str(recipe / "base")], recipe.parents[1], environment, log)
    file = peer / f"{name}.yaml"
    keys = {**yaml.safe_load(file.read_text()), "datasets": [{"path": "json", "data_files": rows.name}]}
    keys |= {"model_name_or_path": "base", "output_dir": f"first-{name}"}
    first = peer / "first" / f"{name}.yaml"
    first.parent.mkdir(exist_ok=True)
    first.write_text(yaml.safe_dump(keys))
    saving = ["--save_strategy", "steps", "--save_steps", str(FIRST)]
    measured_command(["trl", kind, "--config", str(first), *common, *saving], peer, environment, log)
    theirs = peer / f"first-{name}" / f"checkpoint-{FIRST}" / "trainer_state.json"
    ours = where / ("1" if name == "apo" else "") / "trainer_state.json"
    return {"ours": list(losses_of(ours)), "peer": list(losses_of(theirs))}


def losses_of(state: Path) -> Iterator[float]:
    """The losses that a trainer logged."""
    for entry in json.loads(state.read_text())["log_history"]:
        if "loss" in entry:
            yield entry["loss"]


def suite_of(recipe: Path, run: Path, models: dict[str, str], output: Path) -> dict[str, Any]:
    """The recipe's suite for these models, its rows where the run has them."""
    keys = yaml.safe_load((recipe / "eval.yaml").read_text())
    tasks = [task | {"data": str(run / task["data"])} for task in keys["tasks"]]
    return {**keys, "tasks": tasks, "models": models, "output_dir": str(output)}


def our_tokens(run: Path) -> dict[str, float]:
    """The tokens that each of our trainings has seen."""
    folders = {"mid": run / "mid", "sft": run / "sft", "apo": run / "apo" / "1"}
    found = {name: json.loads((folder / "manifest.json").read_text()) for name, folder in folders.items()}
    return {name: manifest["metrics"]["tokens_seen"] for name, manifest in found.items()}


def peer_tokens(log: str) -> dict[str, float]:
    """The tokens that TRL said at the end of its first training of each kind, from what its commands printed.

    >>> peer_tokens("$ trl sft --config mid.yaml\\n{'loss': '1', 'num_tokens': '1.5e+03'}\\n$ mergekit-yaml a b\\n")
    {'mid': 1500.0}
    """
    found: dict[str, float] = {}
    for part in log.split("$ trl ")[1:]:
        said = re.findall(r"'num_tokens': '?([\d.e+]+)", part.partition("\n$ ")[0])
        named = re.search(r"--config (\w+)\.yaml", part)
        if said and named and f"--max_steps {FIRST} " not in part.partition("\n")[0]:
            found.setdefault(named[1], float(said[-1]))
    return found


def differences(evals: Path, model: str) -> list[dict[str, Any]]:
    """Every headline score of a model of both sides, and what ours is better by, item by item."""
    from apo_soup.evals.compare import metric_comparisons, read_results

    one, two = (read_results(evals / f"{side}-{model}") for side in ("peer", "ours"))
    lines, _ = metric_comparisons(one, two)
    return [
        {
            "metric": line.metric, "peer": line.before, "ours": line.after, "gain": round(line.gain.value, 4),
            "low": line.gain.low, "high": line.gain.high, "beyond_noise": line.gain.beyond_noise,
        }
        for line in lines
    ]  # fmt: skip


def told(result: dict[str, Any]) -> Iterator[str]:
    """The figures as Markdown."""
    yield "| | seconds | of the processor | peak MB | commands | files | lines |"
    yield "|---|---|---|---|---|---|---|"
    for side in ("peer", "ours"):
        total, wrote = result["totals"][side], result["written"][side]
        figures = [total["seconds"], total["processor_seconds"], total["peak_mb"]]
        cells = [f"{figure:,}" for figure in (*figures, wrote["commands"], wrote["files"], wrote["lines"])]
        yield f"| {side} | {' | '.join(cells)} |"
    yield ""
    yield "| training | losses of the first steps, peer | ours | largest difference |"
    yield "|---|---|---|---|"
    for name, losses in result["first_losses"].items():
        shown = [", ".join(f"{loss:.5f}" for loss in losses[side]) for side in ("peer", "ours")]
        far = max(abs(a - b) for a, b in zip(losses["peer"], losses["ours"], strict=True))
        yield f"| {name} | {' | '.join(shown)} | {far:.1e} |"
    for model, scores in result["scores"].items():
        yield ""
        yield f"| {model} | peer | ours | ours is better by |"
        yield "|---|---|---|---|"
        for score in scores:
            mark = " *" if score["beyond_noise"] else ""
            interval = f"{score['low']:+.3f} to {score['high']:+.3f}"
            yield f"| {score['metric']} | {score['peer']:.3f} | {score['ours']:.3f} | {interval}{mark} |"


if __name__ == "__main__":
    main()
