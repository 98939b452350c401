"""`apo-soup plan --measure`: a few steps of each training, on the devices that are here."""

import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apo_soup.children import forward_signals
from apo_soup.cli.steps import STEPS, executable, launch_command
from apo_soup.config.apo import ApoFile
from apo_soup.config.members import member_recipes, same_but_seed
from apo_soup.config.places import run_folder_of
from apo_soup.config.training import TrainingFile
from apo_soup.data.prepare import prepared_folder
from apo_soup.errors import UserError
from apo_soup.models.recipe_tokenizer import recipe_tokenizer
from apo_soup.plan.longest_rows import write_longest_rows
from apo_soup.plan.stage_plan import Measured, StagePlan
from apo_soup.runs.makers import upstream
from apo_soup.runs.manifest import read_manifest
from apo_soup.stops import StopAsked

# Steps that are trained; the first one makes the optimiser's states, without which no peak would be one.
MEASURED_STEPS = 3
# What a measurement is without: files, trackers and evaluations are no part of a step, nor is the learning rate, whose
# schedule may ask for more steps than there are, or for evaluations.
WITHOUT = {
    "max_steps": str(MEASURED_STEPS),
    "save_strategy": "no",
    "eval_strategy": "no",
    "eval_on_start": "false",
    "eval_suite": "null",
    "load_best_model_at_end": "false",
    "metric_for_best_model": "null",
    "lr_scheduler_type": "constant",
    "lr_scheduler_kwargs": "null",
    "warmup_steps": "0",
    "report_to": "none",
    "push_to_hub": "false",
}
# Of a soup's members, kept steps are folders of their own.
WITHOUT_KEPT_STEPS = {"checkpoints": "null"}


def measured_plans(
    plans: list[StagePlan], files: dict[str, TrainingFile], recipe: Path, launch: str | None
) -> Iterator[StagePlan]:
    """The plans with what a few of their steps took; those of which nothing could be planned as they are.

    Args:
        files: the training files by the names of their stages, `mid`, `sft` and `apo`.
        launch: the accelerate configuration they are started with.

    Raises:
        UserError: a training fails.
        StopAsked: a signal came.
    """
    known: list[tuple[TrainingFile, Measured]] = []
    for plan in plans:
        if plan.steps is None:
            yield plan
            continue
        stage, _, number = plan.name.partition("/")
        file = files[stage]
        training = member_recipes(file)[int(number) - 1] if isinstance(file, ApoFile) else file
        found = next((took for other, took in known if same_but_seed(other, training)), None)
        if found is None:
            print(f"{plan.name}: {MEASURED_STEPS} steps are measured, then {MEASURED_STEPS} of the longest", flush=True)
            found = _measured(_Steps(stage, file, training, recipe, launch), plan.global_batch or 1)
            known.append((training, found))
        yield replace(plan, measured=found, seconds=round(found.step_seconds * plan.steps, 1))


@dataclass(frozen=True)
class _Steps:
    """What is measured: the training of a stage's file, or of one of its members, as the recipe starts it."""

    stage: str
    file: TrainingFile
    training: TrainingFile
    recipe: Path
    launch: str | None


def _measured(steps: _Steps, batch: int) -> Measured:
    """What steps take on rows in the order of the training, and on the longest; `batch` is that of all processes."""
    prepared = prepared_folder(steps.training, recipe_tokenizer(steps.training))
    count, pairs = MEASURED_STEPS * batch, isinstance(steps.file, ApoFile)
    order = _run_steps(steps, prepared.name, lambda into: into.symlink_to(prepared.absolute()))
    longest = _run_steps(steps, prepared.name, lambda into: write_longest_rows(prepared, into, count, pairs))
    return Measured(order[0], longest[0], max(order[1], longest[1]))


def _run_steps(steps: _Steps, prepared: str, put_rows: Callable[[Path], None]) -> tuple[float, int]:
    """Seconds a step and the peak in bytes of a training that starts in a folder beside its run, which is then removed;
    `put_rows` puts the prepared rows where it looks for them, under the name `prepared`.
    """
    file, training = steps.file, steps.training
    run = run_folder_of(file).absolute()
    run.parent.mkdir(parents=True, exist_ok=True)
    with (
        forward_signals() as forwarded,
        tempfile.TemporaryDirectory(dir=run.parent, prefix=f".{run.name}.measured-") as folder,
    ):
        output = Path(folder) / Path(file.output_dir).name
        (Path(folder) / "prepared").mkdir()
        put_rows(Path(folder) / "prepared" / prepared)
        words = _words(file, training, output)
        ended = subprocess.run(
            executable(launch_command(STEPS[steps.stage], steps.recipe, steps.launch, words)),
            stdout=subprocess.PIPE,
            text=True,
        )
        if forwarded:
            raise StopAsked(forwarded[0])
        if ended.returncode:
            print(ended.stdout[-2000:], file=sys.stderr)
            raise UserError(
                f"{file.path}: expected {MEASURED_STEPS} steps of {steps.stage}, got exit code {ended.returncode}, "
                "told above; mend it, or plan without --measure"
            )
        manifest = read_manifest(output if training.member is None else output / str(training.member))
        assert manifest is not None, output
        metrics = manifest["metrics"]
        gpu = metrics.get("peak_gpu_memory_mb")
        peak = (gpu if gpu is not None else manifest["peak_memory_mb"]) * 2**20
        return round(metrics["train_seconds"] / MEASURED_STEPS, 3), round(peak)


def _words(file: TrainingFile, training: TrainingFile, output: Path) -> list[str]:
    """What is laid over a file. A member's own keys lie over those of all, so that they are given for it again."""
    keys = WITHOUT | {"model_name_or_path": upstream(training).model}
    words = ["--output_dir", str(output)]
    if isinstance(file, ApoFile):
        keys |= WITHOUT_KEPT_STEPS
        words += ["--member", str(training.member)]
        own: list[dict[str, Any]] = file.members or []
        again = ((n, key) for n, member in enumerate(own) for key in keys if key in member)
        words += [word for n, key in again for word in (f"--members.{n}.{key}", keys[key])]
    return words + [word for key, value in keys.items() for word in (f"--{key}", value)]
