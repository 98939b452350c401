"""Slurm jobs of a recipe: which, behind which, and as what words; Slurm's own programs are stood in for by scripts."""

import json
import os
import re
import shlex
import shutil
import subprocess

import pytest
from helpers import ROOT, python

from apo_soup.cli.submit import told_last

COUNTING = """#!/bin/sh
env | grep -E '^(SLURM|SBATCH)_' >> {log}.env
{python} -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@" >> {log}
wc -l < {log}
"""


@pytest.fixture
def recipe(tmp_path):
    """The embedded recipe with fewer rows, in a folder whose name holds a space and a quote."""
    folder = tmp_path / "it's mine"
    shutil.copytree(ROOT / "recipes" / "tiny", folder, ignore=shutil.ignore_patterns("base"))
    (folder / "base").symlink_to(ROOT / "recipes" / "tiny" / "base")
    (folder / "recipe.yaml").write_text("name: a b's\nmodel: base\nchat_template: apo-soup\n")
    counts = (ROOT / "recipes" / "tiny" / "data.yaml").read_text()
    (folder / "data.yaml").write_text(re.sub(r": \d+", ": 5", counts))
    (folder / "slurm.yaml").write_text("partition: cpu\ntime: '1:00:00'\nlaunch: cpu.yaml\nsetup: . ./env.sh\n")
    return folder


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """What was given to sbatch; squeue says what stands in `queue`."""
    programs, log, queue = tmp_path / "programs", tmp_path / "sent.jsonl", tmp_path / "queue"
    programs.mkdir()
    queue.touch()
    log.touch()
    (programs / "sbatch").write_text(COUNTING.format(python=shutil.which("python3"), log=shlex.quote(str(log))))
    (programs / "squeue").write_text(f"#!/bin/sh\ncat {shlex.quote(str(queue))}\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return lambda: [json.loads(line) for line in log.read_text().splitlines()]


def option(words: list[str], name: str) -> str:
    return next((word.partition("=")[2] for word in words if word.startswith(f"--{name}=")), "")


def program(words: list[str]) -> list[str]:
    """The words behind the job file."""
    return words[[word.endswith("stage.sbatch") for word in words].index(True) + 1 :]


def test_each_stage_waits_for_those_it_reads_and_an_evaluation_for_its_checkpoint(apo_soup, recipe, sent):
    result = apo_soup("submit", recipe, "--send")
    assert (result.returncode, result.stderr) == (0, "")
    jobs = {option(words, "job-name").removeprefix("a b's-"): words for words in sent()}
    assert list(jobs) == [
        *("data", "mid", "sft", "pairs", "apo", "soup", "merge", "sweep"),
        *(f"evals-{name}" for name in ("base", "mid", "sft", "soup", "merged", "apo-1", "apo-2", "apo-3")),
    ]
    numbers = {str(number): name for number, name in enumerate(jobs, 1)}
    array = 1 + list(jobs).index("apo")
    numbers |= {f"{array}_{member}": f"apo/{member}" for member in (1, 2, 3)}
    waits = {
        name: {numbers[one] for one in option(words, "dependency").removeprefix("afterok:").split(":") if one}
        for name, words in jobs.items()
    }
    assert waits["data"] == set()
    assert waits["apo"] == {"data", "sft", "pairs"}
    assert waits["soup"] == {"apo"}
    assert waits["evals-mid"] == {"data", "pairs", "mid"}
    assert waits["evals-merged"] == {"data", "pairs", "merge"}
    assert waits["evals-apo-2"] == {"data", "pairs", "apo/2"}
    assert all("--kill-on-invalid-dep=yes" in words for name, words in jobs.items() if waits[name])
    assert [option(words, "array") for words in jobs.values() if option(words, "array")] == ["1,2,3"]
    assert option(jobs["apo"], "output") == "runs/a b's/logs/slurm/apo-%A_%a.log"
    assert program(jobs["sft"]) == [
        ". ./env.sh",
        str(ROOT / "recipes/accelerate/cpu.yaml"),
        "sft",
        "--config",
        str(recipe / "sft.yaml"),
    ]
    assert program(jobs["merge"]) == [
        ". ./env.sh",
        "",
        "merge",
        "--config",
        str(recipe / "merge.yaml"),
        "--only",
        "merged",
    ]
    assert program(jobs["evals-apo-2"])[-2:] == ["--only", "apo/2"]
    assert f"apo: job {list(jobs).index('apo') + 1}, members 1, 2, 3, behind data, sft, pairs\n" in result.stdout


def test_the_printed_commands_are_those_that_are_sent(apo_soup, recipe, sent, tmp_path):
    words = ("submit", "sft", recipe, "--args", '--run_name "it\'s $HOME" --learning_rate 1e-3')
    printed = apo_soup(*words).stdout
    assert sent() == []
    subprocess.run(["bash"], input=printed, text=True, check=True)
    by_shell = sent()
    (tmp_path / "sent.jsonl").write_text("")
    assert apo_soup(*words, "--send").returncode == 0
    assert by_shell == sent()
    assert program(sent()[-1])[-4:] == ["--run_name", "it's $HOME", "--learning_rate", "1e-3"]
    assert not any("1e-3" in words for words in sent()[:-1])


def test_what_a_session_inside_a_job_has_of_that_job_reaches_no_job(apo_soup, recipe, sent, tmp_path, monkeypatch):
    """srun ends at once where both SLURM_MEM_PER_CPU, of the session, and SLURM_MEM_PER_NODE, of the job, are there."""
    kept = {"SLURM_CONF": "here", "SBATCH_ACCOUNT": "ours"}
    of_the_session = {"SLURM_MEM_PER_CPU": "50", "SLURM_JOB_ID": "1", "SBATCH_WAIT": "1", "SBATCH_ARRAY_INX": "1-2"}
    for name, value in (kept | of_the_session).items():
        monkeypatch.setenv(name, value)
    printed = apo_soup("submit", "data", recipe).stdout
    subprocess.run(["sh"], input=printed, text=True, check=True)
    assert apo_soup("submit", "data", recipe, "--send").returncode == 0
    assert (tmp_path / "sent.jsonl.env").read_text().splitlines().count("SLURM_CONF=here") == 2
    assert set((tmp_path / "sent.jsonl.env").read_text().splitlines()) == {f"{k}={v}" for k, v in kept.items()}


def test_what_is_up_to_date_is_skipped_and_what_was_left_undone_is_named(apo_soup, recipe, sent, tmp_path):
    assert python("-m", "apo_soup.toy", "--config", recipe / "data.yaml", cwd=tmp_path).returncode == 0
    logs = tmp_path / "runs" / "a b's" / "logs" / "slurm"
    logs.mkdir(parents=True)
    (logs / "mid-7.log").write_text("error: mid.yaml:3: it is wrong\njob 7 ended with 2\n")
    told = apo_soup("submit", "mid", recipe).stdout
    assert "# data: up to date, skipped" in told
    assert "# mid: an earlier job left it undone; runs/a b's/logs/slurm/mid-7.log ends: job 7 ended with 2\n" in told
    assert re.findall(r"^(job_\w+)=", told, re.MULTILINE) == ["job_mid"]
    assert "--dependency" not in told
    (logs / "mid-8.log").write_text("job 8 ended well\n")
    assert "an earlier job" not in apo_soup("submit", "mid", recipe).stdout
    done = apo_soup("submit", "data", recipe)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, f"# {recipe}: nothing to do up to data")


def test_every_member_that_was_left_undone_is_named_with_its_newest_log(apo_soup, recipe, sent, tmp_path):
    logs = tmp_path / "runs" / "a b's" / "logs" / "slurm"
    logs.mkdir(parents=True)
    ends = {"apo-9_1": "job 9 ended well", "apo-10_1": "job 10 ended with 1", "apo-9_2": "job 11 ended with 2"}
    ends |= {"apo-10_2": "job 12 ended well", "apo-9_3": "step 3/9", "apo-9_7": "of a member that is no more"}
    ends |= {"sft-9": "", "evals-apo-1-4": "job 4 ended with 2"}
    for name, end in ends.items():
        (logs / f"{name}.log").write_text(f"something\n{end}\n" if end else "")
    told = [line for line in apo_soup("submit", "apo", recipe).stdout.splitlines() if "an earlier job" in line]
    left = "an earlier job left it undone; runs/a b's/logs/slurm/"
    assert told == [
        f"# sft: {left}sft-9.log ends: without a word",
        f"# apo: {left}apo-10_1.log ends: job 10 ended with 1",
        f"# apo: {left}apo-9_3.log ends: step 3/9",
    ]


def test_the_kind_of_the_gpus_is_asked_for_with_their_number(apo_soup, recipe, sent):
    asked = "gpus_per_node: 1\ngpu_type: h100\nstages: {data: {gpus_per_node: 0}}\n"
    (recipe / "slurm.yaml").write_text(f"{asked}sbatch: {{export: 'ALL,A=b', gres: 'lscratch:9'}}\n")
    assert apo_soup("submit", "mid", recipe, "--send").returncode == 0
    data, mid = sent()
    assert (option(data, "gpus-per-node"), option(mid, "gpus-per-node")) == ("", "h100:1")
    assert (option(mid, "export"), option(mid, "gres")) == ("ALL,A=b", "lscratch:9")


def test_a_log_is_told_by_the_line_in_which_slurm_ended_its_job():
    killed = "slurmstepd-n1: error: *** JOB 7 ON n1 CANCELLED AT 2026-11-30T16:45:35 DUE TO TIME LIMIT ***"
    lines = ["x job 7, start 1, on n1: sft", killed, "srun: forcing job termination", "srun: error: n1: task 0: Killed"]
    assert told_last(lines) == killed
    assert told_last([*lines, "x job 7, start 2, on n1: sft", "step 3/9"]) == "step 3/9"
    by_hand = "slurmstepd-n1: error: *** JOB 2 ON n1 CANCELLED AT 2026-12-01T04:01:24 ***"
    assert told_last([by_hand, "srun: error: n1: task 0: Exited with exit code 143"]) == by_hand
    assert told_last([]) == ""


def test_rows_that_are_nowhere_are_told_before_a_job_waits_for_its_turn(apo_soup, recipe, sent):
    text = (recipe / "apo.yaml").read_text()
    (recipe / "apo.yaml").write_text(text.replace("data/preference.jsonl", "data/nowhere.jsonl"))
    assert apo_soup("submit", "sft", recipe).returncode == 0
    result = apo_soup("submit", "apo", recipe, "--send")
    assert result.returncode == 2
    assert re.search(r"apo.yaml:8: dataset_mixture.datasets.0.id: expected .*, got .*/nowhere.jsonl", result.stderr)
    assert sent() == []


def test_a_chain_that_is_in_the_queue_is_not_sent_again(apo_soup, recipe, sent, tmp_path):
    (tmp_path / "queue").write_text(f"41|RUNNING|{tmp_path}|a b's-mid\n42|PENDING|/elsewhere|a b's-sft\n")
    (tmp_path / "runs" / "a b's" / "logs" / "slurm").mkdir(parents=True)
    (tmp_path / "runs" / "a b's" / "logs" / "slurm" / "mid-41.log").write_text("step 3/9\n")
    printed = apo_soup("submit", "sft", recipe).stdout
    assert printed.startswith("# job 41 (a b's-mid, RUNNING) is in the queue\nset -eu\n")
    result = apo_soup("submit", "sft", recipe, "--send")
    assert result.returncode == 2
    told = "expected no job of it in the queue, got 41 (a b's-mid, RUNNING); wait for them, or end them with scancel 41"
    assert told in result.stderr
    assert sent() == []


def test_what_sbatch_refuses_is_told_with_the_jobs_that_are_queued(apo_soup, recipe, sent, tmp_path):
    sbatch = tmp_path / "programs" / "sbatch"
    sbatch.write_text(
        f"#!/bin/sh\n[ -e {tmp_path}/once ] && echo 'sbatch: error: no' >&2 && exit 1\ntouch {tmp_path}/once\necho 7\n"
    )
    result = apo_soup("submit", "mid", recipe, "--send")
    assert result.returncode == 2
    assert "mid: expected sbatch to queue its job, got sbatch: error: no; correct " in result.stderr
    assert "in the queue already: 7 (scancel ends them)" in result.stderr
    sbatch.write_text("#!/bin/sh\necho the site says hello\necho '41;one'\n")
    assert "mid: job 41, behind data\n" in apo_soup("submit", "mid", recipe, "--send").stdout
    sbatch.write_text("#!/bin/sh\n")
    told = "data: expected the number of its job from sbatch --parsable, got nothing; look with squeue"
    assert told in apo_soup("submit", "mid", recipe, "--send").stderr


def test_members_of_one_alone(apo_soup, recipe, sent):
    text = (recipe / "apo.yaml").read_text()
    (recipe / "apo.yaml").write_text(re.sub(r"members:\n(  - seed: \d\n)+", "", text))
    assert "--array=1 " in apo_soup("submit", "apo", recipe).stdout
    told = apo_soup("submit", "apo", recipe, "--args", "--member 1").stdout
    assert "--array" not in told
    assert told.splitlines()[-2].endswith("--member 1)")


def test_a_secret_is_no_word_of_a_job(apo_soup, recipe, sent):
    for more in ([], ["--send"]):
        result = apo_soup("submit", "mid", recipe, *more, "--args", "--hub_token hf_planted")
        assert result.returncode == 2
        assert "submit: expected no secret among the keys, which every job's log shows" in result.stderr
        assert "hf_planted" not in result.stdout + result.stderr
    assert sent() == []


def test_without_slurm_sending_is_one_sentence(apo_soup, recipe, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    result = apo_soup("submit", "mid", recipe, "--send")
    assert result.returncode == 2
    assert "expected Slurm's squeue, got " in result.stderr
    assert "leave --send out" in result.stderr
