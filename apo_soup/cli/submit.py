"""`apo-soup submit [STAGE] RECIPE`: the jobs of a recipe as sbatch commands, printed or sent.

Each waits until those that it reads from have ended well (afterok), so a stage that fails stops what follows, and a
member of apo that fails its own evaluation and the soup. A job
knows nothing of the others: `recipes/slurm/stage.sbatch` runs one program.
"""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from apo_soup.cli.chain import Chain, Job, chain_of
from apo_soup.cli.order import require_our_programs, require_right_files
from apo_soup.cli.steps import STEPS, keys_of_file, order
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.places import run_folder_of
from apo_soup.config.slurm import JOB_FILE, JobKeys, SlurmFile, job_grace, launch_of_job, slurm_file
from apo_soup.errors import UserError, first_line, told_together
from apo_soup.plan.jobs import job_problems
from apo_soup.resources import shipped_recipes
from apo_soup.runs.secrets import without_secrets

# How the job file's last line ends where the program ended with 0.
WELL = " ended well"
# The line of the job file that a start begins with, and that of Slurm where it, or somebody by scancel, ends a job.
_START = re.compile(r"job \d+, start \d+, on ")
_ENDED_BY_SLURM = re.compile(r"error: \*\*\* JOB \d+ .*CANCELLED AT ")
# A session inside a job (salloc, srun --pty) holds the variables of that job, and srun would take them for those of the
# new one: its memory, its cores. These alone say where Slurm is.
_OF_THE_CLUSTER = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
# Variables that sbatch puts above what the job file says, for what the chain decides itself.
_ABOVE_THE_FILE = tuple(
    f"SBATCH_{name}" for name in ("ARRAY_INX", "GPUS", "GPUS_PER_TASK", "NO_REQUEUE", "OPEN_MODE", "REQUEUE", "WAIT")
)


@dataclass(frozen=True)
class Cluster:
    """Where the jobs of a recipe go.

    Attributes:
        settings: its slurm.yaml.
        recipe: its folder.
        run: the folder of its run, whose name is that of the run.
    """

    settings: SlurmFile
    recipe: Path
    run: Path

    @property
    def logs(self) -> Path:
        """The folder of the jobs' output."""
        return self.run / "logs" / "slurm"

    def job_name(self, job: Job) -> str:
        """What squeue shows."""
        return f"{self.run.name}-{_flat(job)}"

    def command(self, job: Job, after: Sequence[str]) -> list[str]:
        """The sbatch command of a job.

        Args:
            after: the numbers of the jobs that must have ended well, or variables of a shell that hold them.

        Raises:
            UserError: the accelerate configuration of a training is not there.
        """
        asked = self.settings.job(job.stage)
        launch = launch_of_job(asked, self.recipe) if job.launched else None
        own = self.recipe / JOB_FILE
        # In a log's name sbatch reads % as the beginning of a number.
        log = str(self.logs / _flat(job)).replace("%", "%%")
        return [
            "sbatch",
            "--parsable",
            f"--job-name={self.job_name(job)}",
            f"--output={log}-{'%A_%a' if job.members else '%j'}.log",
            *_resources(asked, job),
            *([f"--array={','.join(map(str, job.members))}"] if job.members else []),
            *([f"--dependency=afterok:{':'.join(after)}", "--kill-on-invalid-dep=yes"] if after else []),
            _from_here(own if own.is_file() else shipped_recipes() / "slurm" / JOB_FILE),
            self.settings.setup or f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH",
            _from_here(launch) if launch else "",
            *job.words,
        ]


def submit_chain(stage: str, recipe: Path, words: list[str], send: bool) -> int:
    """Print the commands that send the jobs of a recipe up to a stage, or send them; returns the exit code.

    Raises:
        UserError: the recipe is wrong, a word is a secret, jobs of it are in the queue, or sbatch refuses one.
    """
    if without_secrets(words) != words:  # a job's words stand in Slurm's records and in its log
        raise UserError(
            "submit: expected no secret among the keys, which every job's log shows, got one; give it in the "
            "environment, or in setup of slurm.yaml by a file that it reads"
        )
    todo = order(stage)
    if not (recipe / STEPS[stage].file).is_file():
        raise UserError(
            f"{recipe}: expected a file {STEPS[stage].file} for the {stage} stage, got none; "
            "add it, or name another stage"
        )
    settings = slurm_file(recipe)[0]
    require_our_programs(recipe, todo)
    require_right_files(recipe, todo, stage, words, None)
    problems = job_problems(recipe, [STEPS[name].file for name in todo]) or _missing(recipe, todo, words)
    if problems:
        raise told_together(problems)
    file = recipe / STEPS[stage].file
    run = run_folder_of(load(file, stage_of_file(file) or ""))
    cluster = Cluster(settings, recipe, run)
    chain = chain_of(recipe, stage, words)
    queued = _queued({cluster.job_name(job) for job in chain.jobs}, must_answer=send)
    if send and queued:
        waiting = ", ".join(f"{number} ({state})" for number, state in queued.items())
        raise UserError(
            f"{recipe}: expected no job of it in the queue, got {waiting}; wait for them, or end them with scancel "
            f"{' '.join(queued)}"
        )
    for line in [*chain.told, *_left_behind(cluster, chain, queued)]:
        print("\n".join(f"# {part}" for part in line.splitlines()))
    if not chain.jobs:
        print(f"# {recipe}: nothing to do up to {stage}")
        return 0
    if send:
        _send(cluster, chain)
    else:
        print("\n".join(script(cluster, chain)))
        print("# these are printed; --send (of make: SUBMIT=1) queues them")
    return 0


def _missing(recipe: Path, stages: list[str], words: list[str]) -> list[str]:
    """A sentence for each thing that the files of these stages name, the last with `words` over it, and that is not
    there: a job may wait for days before it would say so.
    """
    from apo_soup.plan.named import named_problems  # late: it needs the stages

    last = STEPS[stages[-1]]
    files: dict[Path, tuple[list[str], tuple[str, ...]]] = {recipe / STEPS[name].file: ([], ()) for name in stages} | {
        recipe / last.file: (keys_of_file(last, words), last.flags)
    }
    there = [load(file, stage_of_file(file) or "", *given) for file, given in files.items() if file.is_file()]
    return named_problems(there, recipe)


def script(cluster: Cluster, chain: Chain) -> Iterator[str]:
    """The commands as a shell takes them; each job's number goes into a variable.

    Raises:
        UserError: as `Cluster.command` does.
    """
    yield "set -eu"
    of_a_job = f"env | sed -n 's/^\\(SLURM_[A-Z0-9_]*\\)=.*/\\1/p' | grep -vxE '{'|'.join(_OF_THE_CLUSTER)}'"
    yield f"unset {' '.join(_ABOVE_THE_FILE)} $({of_a_job})  # what a session inside a job has of that job"
    yield shlex.join(["mkdir", "-p", str(cluster.logs)])
    variables = {job.name: f"job_{re.sub('[^A-Za-z0-9]', '_', job.name)}" for job in chain.jobs}
    for job in chain.jobs:
        after = [_told_to_slurm(name, {own: f"${{{v}}}" for own, v in variables.items()}) for name in job.after]
        words = [_quoted(word, after) for word in without_secrets(cluster.command(job, after))]
        yield f"{variables[job.name]}=$({' '.join(words)})"


def _told_to_slurm(name: str, numbers: Mapping[str, str]) -> str:
    """A job before another one as sbatch takes it: its number, with that of its task where it is one of an array."""
    whole, _, task = name.rpartition("/")
    return numbers[name] if name in numbers else f"{numbers[whole]}_{task}"


def _quoted(word: str, variables: list[str]) -> str:
    """A word for the shell; that which names the jobs before it is made of variables."""
    return word if variables and word.endswith(":".join(variables)) else shlex.quote(word)


def _send(cluster: Cluster, chain: Chain) -> None:
    """Queue the jobs, and say their numbers.

    Raises:
        UserError: sbatch refuses one, or gives no number; those before it stay queued.
    """
    cluster.logs.mkdir(parents=True, exist_ok=True)
    numbers: dict[str, str] = {}
    for job in chain.jobs:
        command = cluster.command(job, [_told_to_slurm(name, numbers) for name in job.after])
        try:
            sent = subprocess.run(command, capture_output=True, text=True, check=True, env=_outside_of_jobs())
        except (OSError, subprocess.CalledProcessError) as error:
            said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else first_line(error)
            queued = f"; in the queue already: {' '.join(numbers.values())} (scancel ends them)" if numbers else ""
            raise UserError(
                f"{job.name}: expected sbatch to queue its job, got {said.splitlines()[-1] if said else 'no reason'}; "
                f"correct {cluster.recipe}/slurm.yaml as it says{queued}"
            ) from error
        # Behind the number may stand the cluster's name, and before it what the site has sbatch say.
        last = (sent.stdout.strip().splitlines() or [""])[-1]
        if not last.partition(";")[0].isdecimal():
            raise UserError(
                f"{job.name}: expected the number of its job from sbatch --parsable, got {last or 'nothing'}; look "
                "with squeue for what was queued, and end it with scancel"
            )
        numbers[job.name] = last.partition(";")[0]
        behind = f", behind {', '.join(job.after)}" if job.after else ""
        members = f", members {', '.join(map(str, job.members))}" if job.members else ""
        print(f"{job.name}: job {numbers[job.name]}{members}{behind}")
    print(
        f"logs: {cluster.logs}; a stage that fails cancels the jobs behind it, and the same command goes on from there"
    )


def _outside_of_jobs() -> dict[str, str]:
    """The environment without what would make the new jobs part of another one."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _ABOVE_THE_FILE and (not name.startswith("SLURM_") or name in _OF_THE_CLUSTER)
    }


def _queued(names: set[str], must_answer: bool) -> dict[str, str]:
    """The jobs of these names that were sent from this folder and have not ended, by number, with name and state.

    Raises:
        UserError: Slurm does not say, and must: silence would be taken for an empty queue, and the chain sent twice.
    """
    try:
        asked = subprocess.run(["squeue", "--me", "-h", "-o", "%A|%T|%Z|%j"], capture_output=True, text=True)
    except OSError as error:
        if not must_answer:
            return {}
        raise UserError(
            f"submit: expected Slurm's squeue, got {first_line(error)}; run it where jobs are queued, or "
            "leave --send out"
        ) from error
    if asked.returncode and must_answer:
        told = (asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"])[0]
        raise UserError(
            f"submit: expected an answer of Slurm's squeue, got {told}; ask again when its "
            "controller answers, or leave --send out"
        )
    jobs = [line.split("|", 3) for line in asked.stdout.splitlines() if line.count("|") >= 3]
    return {number: f"{name}, {state}" for number, state, place, name in jobs if name in names and _here(place)}


def _here(place: str) -> bool:
    try:
        return os.path.samefile(place, Path.cwd())
    except OSError:
        return False


def _left_behind(cluster: Cluster, chain: Chain, queued: dict[str, str]) -> Iterator[str]:
    """Which jobs are in the queue, and where an earlier chain stopped: how the newest logs of the jobs that are due
    end, a log a member.
    """
    at_work = {state.rpartition(", ")[0] for state in queued.values()}
    yield from (f"job {number} ({state}) is in the queue" for number, state in queued.items())
    for job in chain.jobs:
        for log in _newest_logs(cluster, job) if cluster.job_name(job) not in at_work else ():
            last = told_last(_lines(log))
            if not last.endswith(WELL):
                yield f"{job.name}: an earlier job left it undone; {log} ends: {last or 'without a word'}"


def _newest_logs(cluster: Cluster, job: Job) -> list[Path]:
    """The newest log of each task of a job; of one without tasks the newest of all."""
    newest: dict[str, tuple[int, Path]] = {}
    for log in cluster.logs.glob("*.log"):
        named = re.fullmatch(rf"{re.escape(_flat(job))}-(\d+)(?:_(\d+))?", log.stem)
        if named and (not job.members or named[2]):
            task = named[2] if job.members else ""
            newest[task] = max(newest.get(task, (0, log)), (int(named[1]), log))
    return [log for task, (_, log) in sorted(newest.items()) if not job.members or int(task) in job.members]


def _lines(log: Path) -> list[str]:
    try:
        return log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        return [f"unread, for {first_line(error)}"]


def told_last(lines: list[str]) -> str:
    """How a log ends: with why Slurm ended the job's last start, where that is said, or with its last line."""
    starts = [number for number, line in enumerate(lines) if _START.search(line)]
    ended = [line for line in lines[starts[-1] if starts else 0 :] if _ENDED_BY_SLURM.search(line)]
    return (ended or lines)[-1] if lines else ""


def _resources(asked: JobKeys, job: Job) -> Iterator[str]:
    """The options that slurm.yaml says."""
    nodes, gpus = (asked.nodes or 1) if job.launched else 1, asked.gpus_per_node
    values = {
        "partition": asked.partition,
        "account": asked.account,
        "nodes": nodes,
        "gpus-per-node": ":".join(filter(None, (asked.gpu_type, str(gpus)))) if gpus else None,
        "cpus-per-task": asked.cpus_per_task,
        "mem": asked.mem,
        "time": asked.time,
        "signal": f"B:USR1@{job_grace(asked)}",
        **(asked.sbatch or {}),
    }
    for name, value in values.items():
        if value is True:
            yield f"--{name}"
        elif value is not None and value is not False:
            yield f"--{name}={value}"


def _from_here(file: Path) -> str:
    here = Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)


def _flat(job: Job) -> str:
    return job.name.replace("/", "-")
