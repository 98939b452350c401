"""What `slurm.yaml` asks for, beside what a recipe's trainings can be run on."""

from collections.abc import Sequence
from pathlib import Path

from apo_soup.config.given import Given
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.launch_file import STARTED, distributed_type, read_launch
from apo_soup.config.slurm import (
    JobKeys,
    StageJobs,
    job_grace,
    job_processes,
    job_seconds,
    launch_of_job,
    slurm_file,
)
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.plan.check import batch_problems, checked_file, division_problems

_TRAININGS = ("extend", "mid", "sft", "apo")


def job_problems(recipe: Path, files: Sequence[str]) -> list[str]:
    """A sentence for each thing that is wrong with `slurm.yaml`, by itself and for the trainings of these files.

    Args:
        files: names of stage files, such as `sft.yaml`; those that are not there are left out.

    Raises:
        UserError: a member of an apo file is wrong.
    """
    try:
        settings, given = slurm_file(recipe)
    except UserError as error:
        return str(error).splitlines()
    problems = [
        f"{given.place(_key('grace', stage, given))}: {fault}"
        for stage in StageJobs.model_fields
        if (fault := _grace_fault(settings.job(stage)))
    ]
    for stage in _TRAININGS:
        file = recipe / f"{stage}.yaml"
        if file.name not in files or not file.is_file():
            continue
        job = settings.job(stage)
        fault = _launch_fault(job, recipe)
        if fault:
            problems.append(f"{given.place(_key('launch', stage, given))}: {fault}")
            continue
        training, _ = checked_file(file, stage_of_file(file) or "")
        if isinstance(training, TrainingFile):
            where = f"{given.path.name} gives {stage} {job_processes(job)} processes"
            problems += [f"{problem} ({where})" for problem in batch_problems(training, job_processes(job))]
            launch = launch_of_job(job, recipe)
            problems += division_problems(training, launch) if launch else []
    return list(dict.fromkeys(problems))


def _key(name: str, stage: str, given: Given) -> str:
    """Where a key of a stage stands: below the stage's name, or at the top."""
    own = f"stages.{stage}.{name}"
    return own if own in given.lines else name


def _grace_fault(job: JobKeys) -> str | None:
    """Why a job would be asked to end as it begins, as the rest of a sentence."""
    grace, seconds = job_grace(job), job_seconds(job)
    if seconds is None or grace < seconds:
        return None
    told = f"expected fewer seconds than the time limit of {seconds}, got {grace}"
    return f"{told}, so that a job is asked to end as it begins; lower it, or raise time"


def _launch_fault(job: JobKeys, recipe: Path) -> str | None:
    """Why a training's processes cannot be started, as the rest of a sentence."""
    gpus, processes = job.gpus_per_node or 0, job_processes(job)
    try:
        file = launch_of_job(job, recipe)
        if file is None:
            told = f"expected an accelerate configuration for {processes} processes, got none"
            return f"{told}; write fsdp2.yaml or ddp.yaml" if processes > 1 else None
        kind = distributed_type(read_launch(file)[0])
    except UserError as error:
        return str(error).partition(": ")[2]
    if gpus > 1 and kind not in STARTED:
        told = f"expected an accelerate configuration that starts a process for each of {gpus} GPUs, got {file}"
        return f"{told}, which is of the type {kind}; write fsdp2.yaml or ddp.yaml"
    return None
