"""`apo-soup plan --measure`: a few steps of each training, on the devices that are here."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from apo_soup.cli.steps import STEPS, executable, launch_command
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.plan.stage_plan import Measured, StagePlan
from apo_soup.runs.makers import upstream
from apo_soup.runs.manifest import read_manifest

# Steps that are trained; the first one makes the optimiser's states, without which no peak would be one.
MEASURED_STEPS = 3
# What a measurement is without: files, trackers and evaluations are no part of a step.
WITHOUT = ("--save_strategy", "no", "--eval_strategy", "no", "--report_to", "none", "--push_to_hub", "false")


def measured_plans(
    plans: list[StagePlan], files: dict[str, TrainingFile], recipe: Path, launch: str | None
) -> Iterator[StagePlan]:
    """The plans with what their first steps took; those of which nothing could be planned as they are.

    Args:
        files: the training files by the names of their stages, `mid`, `sft` and `apo`.
        launch: the accelerate configuration they are started with.

    Raises:
        UserError: a training fails.
    """
    known: dict[str, Measured] = {}
    for plan in plans:
        stage = plan.name.partition("/")[0]
        if plan.steps is None:
            yield plan
            continue
        # Members differ in their seeds as a rule: the first one stands for all.
        if stage not in known:
            print(f"{stage}: {MEASURED_STEPS} steps are measured", flush=True)
            known[stage] = _measured(stage, files[stage], recipe, launch)
        yield replace(plan, measured=known[stage], seconds=round(known[stage].step_seconds * plan.steps, 1))


def _measured(stage: str, file: TrainingFile, recipe: Path, launch: str | None) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / Path(file.output_dir).name
        prepared = Path(file.output_dir).parent / "prepared"
        (Path(folder) / "prepared").symlink_to(prepared.absolute())
        words = ["--max_steps", str(MEASURED_STEPS), "--output_dir", str(output), *WITHOUT]
        words += ["--model_name_or_path", upstream(file).model]
        words += ["--member", "1"] if stage == "apo" else []
        ended = subprocess.run(
            executable(launch_command(STEPS[stage], recipe, launch, words)), stdout=subprocess.PIPE, text=True
        )
        if ended.returncode:
            print(ended.stdout[-2000:], file=sys.stderr)
            raise UserError(
                f"{file.path}: expected {MEASURED_STEPS} steps of {stage}, got exit code {ended.returncode}, told "
                "above; mend it, or plan without --measure"
            )
        manifest = read_manifest(output / "1" if stage == "apo" else output)
        assert manifest is not None, output
        metrics = manifest["metrics"]
        gpu = metrics.get("peak_gpu_memory_mb")
        peak = (gpu if gpu is not None else manifest["peak_memory_mb"]) * 2**20
        return Measured(round(metrics["train_seconds"] / MEASURED_STEPS, 3), peak)
