"""The job file of Slurm without Slurm: what a job does when its stage ends; scripts stand in for programs of Slurm.

`test_submit_on_slurm.py` has it run by a real one, where one is installed.
"""

import os
import subprocess

import pytest
from helpers import ROOT

PROGRAMS = {
    # What the stage ends with stands in `code`; it is asked to stop while it runs where `asks` is there.
    "srun": """trap '' USR1
[ -e asks ] && kill -USR1 $PPID && sleep 0.2
env > seen
cat says
exit $(cat code)""",
    "squeue": "cat state",
    "scontrol": 'echo "$@" >> requeued',
}


@pytest.fixture
def job(tmp_path):
    """Run the job file; gives its exit code, what it prints, and what was queued again."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, text in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{text}\n")
        (programs / name).chmod(0o755)

    def run(code, asked=True, start=1, setup="true", state="RUNNING", launch="", says="", log=None, **environment):
        (tmp_path / "code").write_text(str(code))
        (tmp_path / "state").write_text(f"{state}\n")
        (tmp_path / "says").write_text(says)
        (tmp_path / "asks").unlink(missing_ok=True)
        (tmp_path / "requeued").unlink(missing_ok=True)
        if asked:
            (tmp_path / "asks").touch()
        slurm = {"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1", "SLURM_JOB_NAME": "mine-sft"}
        slurm |= {"SLURM_RESTART_COUNT": str(start - 1)} if start > 1 else {}
        words = ["bash", str(ROOT / "recipes/slurm/stage.sbatch"), setup, launch, "sft", "--config", "sft.yaml"]
        path = {"PATH": f"{programs}:{os.environ['PATH']}"}
        slurm |= {"SLURM_NODEID": "0", "SLURM_NNODES": "1"} if launch else {}
        out = log.open("a") if log else subprocess.PIPE
        done = subprocess.run(words, cwd=tmp_path, env=slurm | path | environment, stdout=out, text=True)
        requeued = tmp_path / "requeued"
        return done.returncode, done.stdout, requeued.read_text() if requeued.exists() else ""

    return run


@pytest.mark.parametrize("code", [138, 143])
def test_a_stage_that_was_stopped_is_queued_again(code, job):
    ended, said, requeued = job(code)
    assert (ended, requeued) == (code, "requeue 7\n")
    assert said.endswith("job 7 was asked to stop, and queues itself again\n")


@pytest.mark.parametrize("code", [1, 2, 134, 137, 139])
def test_a_stage_that_fails_is_not_run_again_whatever_it_was_asked(code, job):
    ended, said, requeued = job(code)
    assert (ended, requeued) == (code, "")
    assert said.endswith(f"job 7 (mine-sft) ended with {code}; jobs that wait for it are cancelled\n")


def test_a_job_is_queued_again_so_often_and_no_oftener(job):
    assert job(138, start=99)[2] == "requeue 7\n"
    ended, said, requeued = job(138, start=100)
    assert (ended, requeued) == (138, "")
    told = "job 7 was stopped 100 times, as often as most_starts lets it be; send the chain again to go on\n"
    assert told in said
    assert job(143, start=3, setup="most_starts=3", asked=False)[2] == ""
    assert job(143, start=2, setup="most_starts=3", asked=False)[2] == "requeue 7\n"


def test_a_training_that_never_comes_to_a_checkpoint_is_not_queued_again_for_ever(job, tmp_path):
    kept = "stopped by SIGUSR1 after step 5 of 60 of sft, whose checkpoint is written; run the same command again"
    log = tmp_path / "sft-7.log"

    def requeued(start, says=""):
        return bool(job(138, start=start, launch="ddp.yaml", setup="most_idle=3", says=f"{says}\n", log=log)[2])

    assert [requeued(1), requeued(2), requeued(3, kept), requeued(4), requeued(5)] == [True] * 5
    assert not requeued(6)
    told = "job 7 was stopped 3 times without a checkpoint in between, as often as most_idle lets it be; raise time, or"
    assert told in log.read_text()
    assert log.read_text().endswith("job 7 (mine-sft) ended with 138; jobs that wait for it are cancelled\n")


def test_a_cancelled_job_and_one_that_is_done_are_not_queued_again(job):
    assert job(143, asked=False, state="COMPLETING")[2] == ""
    ended, said, requeued = job(0)
    assert (ended, requeued) == (0, "")
    assert said.endswith("job 7 ended well\n")


@pytest.mark.parametrize("state", ["COMPLETING", "NODE_FAIL", "PENDING"])
def test_a_job_of_which_slurm_took_a_node_has_not_ended_well(job, state):
    """Its srun ends with 0."""
    ended, said, requeued = job(0, asked=False, state=state)
    assert (ended, requeued) == (1, "")
    assert said.endswith(f"job 7 was ended by Slurm, which has it as {state}\n")


def test_what_setup_sets_reaches_the_stage_though_sbatch_was_told_what_to_export(job, tmp_path):
    job(0, setup="export MINE=here", SLURM_EXPORT_ENV="NONE")
    seen = (tmp_path / "seen").read_text().splitlines()
    assert "MINE=here" in seen
    assert not any(line.startswith("SLURM_EXPORT_ENV") for line in seen)
