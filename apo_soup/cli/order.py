"""Run a recipe's stages in order: `apo-soup run [STAGE] RECIPE`.

Make knows the targets, this knows the order, and each stage's program knows whether it is stale. A stage that is up
to date costs one short Python start and no training launcher.
"""

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from apo_soup.config.kinds import stage_of_file
from apo_soup.config.recipe import load
from apo_soup.errors import UserError
from apo_soup.runs.entry import STALE
from apo_soup.runs.stage import without_secrets, write_json


@dataclass(frozen=True)
class Step:
    """One stage: its file in the recipe folder, the module that runs it, its extra words, and what must come before."""

    file: str
    module: str
    needs: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    launched: bool = False
    command: tuple[str, ...] = ()


STEPS = {
    "data": Step("data.yaml", "apo_soup.toy"),
    "mid": Step("mid.yaml", "sft", ("data",), launched=True),
    "sft": Step("sft.yaml", "sft", ("mid",), launched=True),
    "pairs": Step("pairs.yaml", "apo.pairs", ("sft",)),
    "apo": Step("apo.yaml", "apo", ("pairs", "sft"), launched=True),
    "soup": Step("merge.yaml", "merge", ("apo",), ("--only", "soup")),
    "merge": Step("merge.yaml", "merge", ("soup", "mid"), ("--only", "merged")),
    "sweep": Step("merge.yaml", "merge.sweep", ("merge",)),
    "eval": Step("eval.yaml", "apo_soup", ("merge", "sweep"), command=("eval",)),
}


def order(stage: str) -> list[str]:
    """The stage and all it needs, each once, needs first.

    >>> order("sft")
    ['data', 'mid', 'sft']
    """
    done: list[str] = []

    def visit(name: str) -> None:
        for need in STEPS[name].needs:
            visit(need)
        if name not in done:
            done.append(name)

    visit(stage)
    return done


def program_words(step: Step, recipe: Path, words: list[str]) -> list[str]:
    return ["-m", step.module, *step.command, "--config", str(recipe / step.file), *step.words, *words]


def command(step: Step, recipe: Path, launch: str | None, words: list[str]) -> list[str]:
    """The exact command that runs a step."""
    program = program_words(step, recipe, words)
    if step.launched:
        return ["accelerate", "launch", *(["--config_file", launch] if launch else []), *program]
    return ["python", *program]


def executable(words: list[str]) -> list[str]:
    """The same command with this interpreter, so that it runs without an activated environment."""
    if words[0] == "accelerate":
        return [sys.executable, "-m", "accelerate.commands.accelerate_cli", *words[1:]]
    return [sys.executable, *words[1:]]


def arguments_file(recipe: Path, step: Step) -> Path:
    """Where a run remembers the overrides that its stages were made with."""
    stage = stage_of_file(recipe / step.file) or ""
    output = Path(load(recipe / step.file, stage).need("output_dir"))
    return (output if step.file == "merge.yaml" else output.parent) / "arguments.json"


def remembered(file: Path, name: str) -> list[str]:
    """The overrides a stage was last made with, so that a later stage does not make it again without them."""
    return json.loads(file.read_text()).get(name, []) if file.is_file() else []


def remember(file: Path, name: str, words: list[str]) -> None:
    """Keep a stage's overrides (never a secret) beside the run."""
    known = json.loads(file.read_text()) if file.is_file() else {}
    words = without_secrets(words)
    if known.get(name, []) != words:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {**known, name: words})


def reads_pairs(recipe: Path) -> bool:
    """Whether the apo file's mixture reads what the pairs file makes."""
    apo, pairs = recipe / STEPS["apo"].file, recipe / STEPS["pairs"].file
    if not apo.is_file():
        return False
    made = Path(load(pairs, "pairs").need("output_dir"))
    sources = load(apo, "apo").values.get("dataset_mixture", {}).get("datasets", [])
    return any(made in Path(source["id"]).parents for source in sources)


def pairs_ask_the_run(recipe: Path) -> bool:
    """Whether a side of the pairs file is a model, or its prompts are rows, that the run makes."""
    values = load(recipe / STEPS["pairs"].file, "pairs").values
    run = Path(values["output_dir"]).parent
    prompts = values.get("prompts")
    sources = [p["id"] if isinstance(p, dict) else p for p in (prompts if isinstance(prompts, list) else [prompts])]
    named = [*sources, *((values.get(side) or {}).get("model", "") for side in ("strong", "weak"))]
    return any(run in Path(name).parents for name in named)


def run_stages(stage: str, recipe: Path, launch: str | None, words: list[str]) -> int:
    """Run what is missing or stale up to `stage`. Returns an exit code.

    `words` are overrides for `stage` itself; the stages before it keep the overrides they were made with.

    Raises:
        UserError: the recipe folder or the stage's file is not there.
    """
    if not recipe.is_dir():
        raise UserError(f"RECIPE={recipe}: no such folder; recipes lie in recipes/, such as recipes/tiny")
    if not (recipe / STEPS[stage].file).is_file():
        raise UserError(f"{recipe}: the recipe has no {STEPS[stage].file}, so there is no {stage} stage to run")
    todo = ["pairs"] if stage == "pairs" and not pairs_ask_the_run(recipe) else order(stage)
    for name in todo:
        step = STEPS[name]
        if not (recipe / step.file).is_file():
            print(f"{name}: not part of {recipe}, skipped (no {step.file})", flush=True)
            continue
        if name == "pairs" != stage and not reads_pairs(recipe):
            print(
                f"pairs: not read by {recipe / STEPS['apo'].file}, skipped; run `make pairs` for themselves", flush=True
            )
            continue
        memory = arguments_file(recipe, step)
        own = words if name == stage else remembered(memory, name)
        asked = subprocess.run(
            executable(["python", *program_words(step, recipe, [*own, "--state"])]), capture_output=True, text=True
        )
        if asked.returncode == 0:
            print(asked.stdout, end="", flush=True)
            continue
        if asked.returncode != STALE:
            print(asked.stdout, end="")
            print(asked.stderr, end="", file=sys.stderr)
            return asked.returncode
        shown = command(step, recipe, launch, own)
        print(f"$ {shlex.join(without_secrets(shown))}", flush=True)
        remember(memory, name, own)
        code = subprocess.run(executable(shown)).returncode
        if code:
            return code
    return 0


def tell_why(recipe: Path) -> None:
    """Print of every stage of a recipe whether it is up to date, or what changed."""
    if not recipe.is_dir():
        raise UserError(f"{recipe}: no such recipe folder")
    stale: list[str] = []
    for name, step in STEPS.items():
        if not (recipe / step.file).is_file():
            continue
        waits = [need for need in order(name) if need in stale]
        if waits:
            print(f"{name}: waits for {waits[0]}")
            stale.append(name)
            continue
        words = [*remembered(arguments_file(recipe, step), name), "--state"]
        asked = subprocess.run(
            executable(["python", *program_words(step, recipe, words)]), capture_output=True, text=True
        )
        print((asked.stdout or asked.stderr).rstrip())
        if asked.returncode:
            stale.append(name)
