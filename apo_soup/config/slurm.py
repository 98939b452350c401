"""`slurm.yaml`: what sbatch is told of the jobs of a recipe, at the top for all and below `stages` for one."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Le
from pydantic import Field, Strict

from apo_soup.config.given import Given
from apo_soup.config.in_words import as_written
from apo_soup.config.keys import AS_WHOLE, NotNegative, Positive, Said, Table, Text, key
from apo_soup.config.problems import in_file_order, unknown_key
from apo_soup.config.stage_file import Fault, Keys
from apo_soup.config.typed_keys import typed_keys
from apo_soup.errors import UserError, told_together
from apo_soup.resources import launch_file, shipped_recipes

SLURM_FILE, JOB_FILE = "slurm.yaml", "stage.sbatch"
GRACE_SECONDS = 300
# Options of sbatch that the chain of jobs decides itself, or that a key of the file stands for.
_OURS = {
    "account", "array", "chdir", "cpus-per-task", "dependency", "error", "gpus", "gpus-per-node", "gpus-per-socket",
    "gpus-per-task", "job-name", "kill-on-invalid-dep", "mem", "no-requeue", "nodes", "ntasks", "ntasks-per-core",
    "ntasks-per-gpu", "ntasks-per-node", "ntasks-per-socket", "open-mode", "output", "parsable", "partition", "requeue",
    "signal", "test-only", "time", "tres-per-task", "wait", "wrap",
}  # fmt: skip
_GPUS_OF_GRES = re.compile(r"(^|,)\s*(gres[:/])?gpu\b")
# YAML reads 24:00:00 without quotes as the number 86400, which sbatch would take for minutes.
JobTime = Annotated[
    str,
    Strict(),
    Field(pattern=r"^(\d+-)?\d+(:\d\d){1,2}$"),
    Said('a time in quotes, such as "24:00:00" or "2-00:00:00"', "write days-hours:minutes:seconds in quotes"),
]


class JobKeys(Keys):
    """What one job asks for; a key that a stage leaves out is that at the top of the file."""

    partition: Text | None = key(None, "partition; the cluster's default without it")
    account: Text | None = key(None, "account that is charged")
    nodes: Positive | None = key(None, "machines of a training (1); every other stage runs on one")
    gpus_per_node: NotNegative | None = key(
        None, "GPUs of each, a process each; 0 (the default) trains on CPUs, a process a node"
    )
    gpu_type: Text | None = key(None, "kind of these GPUs, where the cluster has several, such as h100")
    cpus_per_task: Positive | None = key(None, "CPU cores on each node")
    mem: Text | None = key(None, "memory of a node, such as 500G; 0 is all of it")
    time: JobTime | None = key(None, "longest time of a job; one that a training outlives is queued again and goes on")
    launch: Text | None = key(None, "accelerate configuration of the trainings; its number of processes is not read")
    # sbatch takes no more.
    grace: Annotated[int, Ge(1), Le(65_535), AS_WHOLE] | None = key(
        None, "seconds before the time limit at which a stage is asked to write a checkpoint and end (300)"
    )
    sbatch: Table | None = key(None, "further options of sbatch by their long names, such as `qos: high`")

    def faults(self) -> Iterator[Fault]:
        for name, value in (self.sbatch or {}).items():
            long_name = str(name).lstrip("-").replace("_", "-")
            if name != long_name or len(long_name) < 2:
                told = f"expected the long name of an option of sbatch without its dashes, got {name}"
                yield Fault(f"sbatch.{name}", f"{told}; write {long_name if long_name[1:] else 'it out'}")
            elif name in _OURS or (name == "gres" and _GPUS_OF_GRES.search(str(value))):
                told = "expected an option of sbatch that is free, got one that a key or the chain itself decides"
                gpus = name.startswith("g")
                key_of_ours = (
                    "gpus_per_node, and gpu_type for their kind" if gpus else "the key of that name where there is one"
                )
                yield Fault(f"sbatch.{name}", f"{told}; leave it out, or give {key_of_ours}")
            elif not isinstance(value, str | int | float):
                told = f"expected text, a number or true, got {as_written(value)}; write the option's value"
                yield Fault(f"sbatch.{name}", told)


class StageJobs(Keys):
    """What is otherwise in the jobs of a stage."""

    data: JobKeys | None = key(None, "of `data`")
    extend: JobKeys | None = key(None, "of `extend`")
    mid: JobKeys | None = key(None, "of `mid`")
    sft: JobKeys | None = key(None, "of `sft`")
    traces: JobKeys | None = key(None, "of `traces`")
    pairs: JobKeys | None = key(None, "of `pairs`")
    apo: JobKeys | None = key(None, "of each member of `apo`")
    soup: JobKeys | None = key(None, "of `soup`")
    merge: JobKeys | None = key(None, "of `merge`")
    sweep: JobKeys | None = key(None, "of `sweep`")
    eval: JobKeys | None = key(None, "of the evaluation of each checkpoint")


class SlurmFile(JobKeys):
    """The jobs of a recipe."""

    setup: Text | None = key(
        None,
        "shell lines that every job runs first, such as `module load cuda; source .venv/bin/activate`; without them "
        "the environment of the apo-soup that sends the jobs",
    )
    stages: StageJobs | None = key(None, "what is otherwise for one stage: the same keys below its name")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        jobs = [self.job(stage) for stage in StageJobs.model_fields]
        if any(job.gpu_type for job in jobs) and not any(job.gpus_per_node for job in jobs):
            told = "expected gpus_per_node beside it, which says how many GPUs a node has, got none; add it"
            yield Fault("gpu_type", told)

    def job(self, stage: str) -> JobKeys:
        """What the jobs of a stage ask for."""
        own = getattr(self.stages, stage, None) if self.stages else None
        names = list(JobKeys.model_fields)
        top = {name: self.__dict__[name] for name in names if self.gives(name)}
        given: dict[str, Any] = {name: own.__dict__[name] for name in names if own.gives(name)} if own else {}
        return JobKeys.model_construct(**{**dict.fromkeys(names), **top, **given})


def slurm_file(folder: Path) -> tuple[SlurmFile, Given]:
    """The `slurm.yaml` of a recipe.

    Raises:
        UserError: there is none, or with everything that is wrong with it.
    """
    file = folder / SLURM_FILE
    if not file.is_file():
        raise UserError(
            f"{folder}: expected a {SLURM_FILE}, which says what jobs ask for, got none; copy "
            f"{shipped_recipes() / 'slurm' / SLURM_FILE} there and change it"
        )
    given = Given.from_file(file, [])
    known = list(SlurmFile.model_fields)
    keys, problems = typed_keys(SlurmFile, given, lambda name: unknown_key(given, name, known), commanded=False)
    if problems:
        raise told_together(in_file_order(problems))
    return keys, given


def launch_of_job(job: JobKeys, folder: Path) -> Path | None:
    """The accelerate configuration of a job, beside the recipe, in the working directory or shipped; None without one.

    Raises:
        UserError: it is not there.
    """
    if job.launch is None:
        return None
    beside = folder / job.launch
    return beside if beside.is_file() else launch_file(job.launch)


def job_grace(job: JobKeys) -> int:
    """Seconds before the time limit at which a job is asked to end."""
    return job.grace or GRACE_SECONDS


def job_seconds(job: JobKeys) -> int | None:
    """A job's time limit; None without one.

    >>> job_seconds(JobKeys(time="1-00:30:00")), job_seconds(JobKeys(time="90:00"))
    (88200, 5400)
    """
    if job.time is None:
        return None
    days, _, clock = job.time.rpartition("-")
    parts = [int(part) for part in clock.split(":")]
    # Behind days Slurm reads hours first, else two parts are minutes and seconds.
    parts += [0] * (3 - len(parts)) if days else []
    seconds = 0
    for part in parts:
        seconds = seconds * 60 + part
    return int(days or 0) * 86400 + seconds


def job_processes(job: JobKeys) -> int:
    """The processes that a training's job starts on all of its nodes."""
    return (job.nodes or 1) * max(1, job.gpus_per_node or 0)
