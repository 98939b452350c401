"""The demo with other seeds: other rows, other held-out items, other orders of training; and what it claims in each.

    python -m bench.demo --seeds 3 [--first 1] [--folder FOLDER] [--output bench/results/demo.json]

Every seed is a copy of `recipes/tiny` run from the data to the report in a folder of its own, about as long as `make
demo` each; a copy that the recipe has left behind is made anew. The base model is the same in all. The settings of the
recipe are those of seed 0, and every seed merges at the weight that its merge.yaml names; `chosen_weight` is what the
seed's own sweep would choose. A claim's figure is the mean over the `n` seeds that have one, with Student's 95 %
interval; since every seed draws held-out items of its own, it holds the noise of both. A claim is seen where it is seen
in every seed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from bench.figures import save

ROOT = Path(__file__).parents[1]
RECIPE = ROOT / "recipes" / "tiny"


def main() -> None:
    """Run every seed in turn, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--folder", default="runs/demo_seeds", help="where the runs lie; what is up to date is taken")
    parser.add_argument("--output", default="bench/results/demo.json")
    options = parser.parse_args()
    runs = []
    for seed in range(options.first, options.first + options.seeds):
        runs.append(demo_of_seed(seed, Path(options.folder).resolve() / f"seed-{seed}"))
        print(json.dumps({k: v for k, v in runs[-1].items() if k != "table"}), flush=True)
    claims = claims_over_seeds([run["claims"] for run in runs])
    print(f"{'claim':20} {'mean':>7} {'low':>7} {'high':>7}  n seen  a seed")
    for claim in claims:
        figures = [f"{claim[k]:7.3f}" if claim[k] is not None else f"{'-':>7}" for k in ("value", "low", "high")]
        each = " ".join(f"{v:.3f}" if v is not None else "-" for v in claim["values"])
        print(f"{claim['name']:20} {' '.join(figures)} {claim['n']:2} {claim['seen']!s:5} {each}")
    command = f"python -m bench.demo --seeds {options.seeds} --first {options.first}"
    save(options.output, {"command": command, "claims": claims, "runs": runs})


def seeded_recipe(seed: int, folder: Path) -> Path:
    """A copy of the recipe in which the seeds of rows and trainings are `seed`, and those of members three of its own.

    It is written aside and renamed. One that is there is kept where the recipe would give the same.
    """
    recipe = folder / "recipes" / "tiny"
    aside = recipe.with_name("tiny.new")
    if aside.exists():
        shutil.rmtree(aside)
    shutil.copytree(RECIPE, aside)
    for name in ("data", "mid", "sft", "pairs", "apo"):
        file = aside / f"{name}.yaml"
        keys: dict[str, Any] = yaml.safe_load(file.read_text())
        if "seed" in keys:
            keys["seed"] = seed
        if "dataset_mixture" in keys:
            keys["dataset_mixture"]["seed"] = seed
        for number, member in enumerate(keys.get("members", []), 1):
            member["seed"] = 10 * seed + number
        file.write_text(yaml.safe_dump(keys, sort_keys=False))
    if recipe.is_dir() and folder_bytes(recipe) == folder_bytes(aside):
        shutil.rmtree(aside)
        return recipe
    if recipe.exists():
        shutil.rmtree(recipe)
    aside.rename(recipe)
    return recipe


def folder_bytes(folder: Path) -> dict[str, bytes]:
    """Every file of a folder by its path in it."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def demo_of_seed(seed: int, folder: Path) -> dict[str, Any]:
    """Run the demo with a seed; its claims, its table and the seconds that it took.

    Raises:
        CalledProcessError: a stage failed.
    """
    recipe = seeded_recipe(seed, folder)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    program = [sys.executable, "-m", "apo_soup"]
    launch = str(ROOT / "recipes" / "accelerate" / "cpu.yaml")
    started = time.monotonic()
    with (folder / "log.txt").open("a") as log:
        words = [*program, "run", "eval", str(recipe), "--launch", launch]
        subprocess.run(words, cwd=folder, env=environment, stdout=log, stderr=log, check=True)
    seconds = time.monotonic() - started
    told = subprocess.run(
        [*program, "report", str(recipe), "--json"],
        cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True,
    ).stdout  # fmt: skip
    table = json.loads((folder / "runs" / "tiny" / "table.json").read_text())
    chosen = json.loads((folder / "runs" / "tiny" / "sweep" / "sweep.json").read_text())["chosen"]["weight"]
    claims = json.loads(told)["claims"]
    return {"seed": seed, "seconds": round(seconds), "chosen_weight": chosen, "claims": claims, "table": table}


def claims_over_seeds(runs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Each claim's mean over the `n` runs that have a figure, its interval, and whether every run sees it."""
    from apo_soup.statistics import mean_score

    found = []
    for several in zip(*runs, strict=True):
        values = [claim["value"] for claim in several]
        score = mean_score([value for value in values if value is not None])
        found.append(
            {
                "name": several[0]["name"],
                "value": score.value,
                "low": score.low,
                "high": score.high,
                "n": score.n,
                "seen": all(claim["seen"] for claim in several),
                "values": values,
            }
        )
    return found


if __name__ == "__main__":
    main()
