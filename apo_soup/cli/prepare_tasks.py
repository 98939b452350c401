"""`apo-soup prepare --on local|slurm --tasks N`: shards of a mixture as tasks of datatrove, and one that joins them."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError, first_line
from apo_soup.runs.secrets import groups_without_secrets

# What is decided here, and not by `--slurm KEY=VALUE`.
OURS = {"self", "pipeline", "tasks", "workers", "logging_dir", "depends", "skip_completed", "job_name", "sbatch_args"}
DAY = "24:00:00"


def prepare_on(place: str, recipe: TrainingFile, words: list[str], tasks: int, workers: int, slurm: list[str]) -> None:
    """Start `tasks` tasks that each make a shard, and the one that joins them.

    On this machine that is done when this returns; on Slurm the jobs are queued. Called again, it starts what is not
    done.

    Args:
        place: `local` or `slurm`.
        words: `--key value` words that are laid over the recipe; secrets among them are left out.
        workers: how many tasks run at once; 0 for all that may.
        slurm: `KEY=VALUE` for Slurm: options of datatrove's executor, or of sbatch.

    Raises:
        UserError: datatrove is not installed, or an option is wrong.
    """
    # What a failed task says goes to a log; the values of its variables, which may be a person's secrets, do not.
    os.environ.setdefault("LOGURU_DIAGNOSE", "NO")
    words = groups_without_secrets(words)  # datatrove writes what a step holds
    try:
        from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
    except ImportError as error:
        raise UserError(
            "--on: expected the package datatrove, got none; install it: pip install 'apo-soup[cluster]'"
        ) from error
    from apo_soup.cli.datatrove_steps import JoinStep, ShardStep
    from apo_soup.data.shards import plan_file
    from apo_soup.models.recipe_tokenizer import recipe_tokenizer

    plan = plan_file(recipe, recipe_tokenizer(recipe, print))
    key = plan.name.removeprefix(".").removesuffix(".plan.json")
    logs = Path(recipe.output_dir).parent / "logs" / "prepare" / key
    folders = [str(logs / f"{tasks}-shards"), str(logs / f"join-{tasks}-shards")]
    forget_lost_shards(plan, Path(folders[0]), tasks)
    shards, join = [ShardStep(recipe.path.absolute(), words)], [JoinStep(recipe.path.absolute(), words)]
    if place == "local":
        at_once = min(tasks, workers or os.cpu_count() or 1)
        first = LocalPipelineExecutor(shards, tasks, at_once, folders[0])
        LocalPipelineExecutor(join, 1, 1, folders[1], depends=first, skip_completed=False).run()
        return
    options = slurm_options(slurm, list(inspect.signature(SlurmPipelineExecutor).parameters))
    common = {"qos": "", "time": DAY, "env_command": _activation(), **options}
    name = f"prepare-{recipe.path.absolute().parent.name}-{recipe.path.stem}"
    first = SlurmPipelineExecutor(shards, tasks, logging_dir=folders[0], job_name=name, workers=workers or -1, **common)
    alone = {key: value for key, value in common.items() if key != "tasks_per_job"}
    last = SlurmPipelineExecutor(
        join, 1, logging_dir=folders[1], job_name=f"{name}-join", depends=first, skip_completed=False, **alone
    )
    try:
        last.run()
    except (OSError, subprocess.CalledProcessError) as error:
        refusal = first_line(error).rstrip(".")
        raise UserError(
            f"--on slurm: expected sbatch to queue the tasks, got {refusal}; correct --slurm as it says, or run where "
            "jobs are queued"
        ) from error


def forget_lost_shards(plan_file: Path, logs: Path, tasks: int) -> None:
    """Remove datatrove's marks of tasks that are done where the shard is gone: joined since, or deleted.

    Raises:
        UserError: the plan of the shards holds something else.
    """
    from apo_soup.data.shards import kept_plan

    plan = kept_plan(plan_file)
    for mark in (logs / "completions").glob("[0-9]*"):
        if plan is None or not plan.shard(int(mark.name) + 1, tasks).is_file():
            mark.unlink()


def slurm_options(words: list[str], known: list[str]) -> dict[str, Any]:
    """Options of datatrove's executor from `KEY=VALUE` words; what it does not know goes to sbatch.

    Raises:
        UserError: a word has no value, a key is decided by another option, or the partition is missing.
    """
    options: dict[str, Any] = {}
    sbatch: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UserError(f"--slurm: expected KEY=VALUE, got {word}; write it so, such as partition=cpu")
        name = key.replace("-", "_")
        if name in OURS:
            raise UserError(f"--slurm: expected an option that is free, got {key}, which prepare sets; leave it out")
        if name in known:
            options[name] = int(value) if value.lstrip("-").isdigit() else value
        else:
            sbatch[key] = value
    if "partition" not in options:
        raise UserError(f"--slurm: expected a partition, got {', '.join(words) or 'none'}; add --slurm partition=NAME")
    return {**options, "sbatch_args": sbatch}


def _activation() -> str:
    """The command that makes the programs of this environment known to a job, and keeps values out of its log."""
    return f'export LOGURU_DIAGNOSE=NO PATH="{Path(sys.executable).parent}:$PATH"'
