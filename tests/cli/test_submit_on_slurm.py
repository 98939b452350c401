"""A chain of jobs on a real Slurm of two nodes: the bytes of plain processes, and an end where a stage fails."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, chat, preference
from slurm_cluster import asked, slurm_cluster, wait_until, why_no_cluster

pytestmark = pytest.mark.skipif(bool(why_no_cluster()), reason=why_no_cluster())

COMMON = {
    "dtype": "float32", "bf16": False, "gradient_checkpointing": False, "global_batch_size": 4,
    "per_device_train_batch_size": 2, "logging_steps": 1, "save_strategy": "steps", "save_steps": 1000,
}  # fmt: skip
STEPS = 60


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    # Short, since the name of a socket may have 108 characters; apart from what the jobs write.
    with slurm_cluster(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment | {"PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


@pytest.fixture
def recipe(tmp_path, write_rows):
    """Fine-tuning over two nodes, two members on a node each, and their soup."""
    folder = tmp_path / "it's mine"
    folder.mkdir()
    rows = [chat(f"What is {n} plus {n % 7}?", f"It is {n + n % 7}.") for n in range(64)]
    pairs = [preference(f"What is {n} plus 2?", f"It is {n + 2}.", f"No, {n}.") for n in range(16)]
    files = {
        "recipe": {"name": "it's mine", "model": str(ROOT / "recipes/tiny/base"), "chat_template": "apo-soup"},
        "sft": {
            **COMMON, "model_name_or_path": "base", "max_length": 64, "max_steps": STEPS, "seed": 1,
            "dataset_mixture": {"datasets": [{"id": str(write_rows("rows.jsonl", rows))}], "seed": 0},
        },
        "apo": {
            **COMMON, "max_length": 128, "max_steps": 2, "loss_type": "apo_zero", "members": [{"seed": 1}, {"seed": 2}],
            "dataset_mixture": {"datasets": [{"id": str(write_rows("pairs.jsonl", pairs))}], "seed": 0},
        },
        "merge": {"soup": {"members": "all"}},
        "slurm": {"time": "1:00:00", "launch": "cpu.yaml", "stages": {"sft": {"nodes": 2}}},
    }  # fmt: skip
    for name, keys in files.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(keys))
    return folder


def run(cluster: dict[str, str], cwd: Path, *words: object) -> str:
    done = subprocess.run([sys.executable, *map(str, words)], env=cluster, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def send(cluster: dict[str, str], recipe: Path, stage: str) -> dict[str, str]:
    """Send a chain; gives the number of each job."""
    said = run(cluster, recipe.parent, "-m", "apo_soup", "submit", stage, recipe, "--send")
    return dict(re.findall(r"^(\S+): job (\d+)", said, re.MULTILINE))


def all_ended(cluster: dict[str, str]) -> bool:
    # A job that was queued again waits for two minutes.
    for number in asked(cluster, "squeue", "-h", "-t", "PENDING", "-o", "%A %r").splitlines():
        if number.endswith("BeginTime"):
            time.sleep(5)  # its first start is still being cleared away, and a second one in that moment fails
            asked(cluster, "scontrol", "update", f"jobid={number.split()[0]}", "StartTime=now")
    # Those that have ended are listed too: of a squeue that got no answer there is no line.
    states = set(asked(cluster, "squeue", "-h", "-t", "all", "-o", "%T").split())
    return bool(states) and states <= {"COMPLETED", "FAILED", "CANCELLED"}


def test_a_chain_ends_in_the_bytes_of_plain_processes_though_a_job_of_it_was_stopped(cluster, recipe, tmp_path):
    jobs = send(cluster, recipe, "soup")
    assert list(jobs) == ["sft", "apo", "soup"]
    run_folder = tmp_path / "runs" / "it's mine"
    log = run_folder / "logs" / "slurm" / f"sft-{jobs['sft']}.log"
    wait_until(lambda: log.is_file() and f"step 1/{STEPS}" in log.read_text(), 120)
    asked(cluster, "scancel", "--signal=USR1", "--batch", jobs["sft"])
    wait_until(lambda: all_ended(cluster), 300)
    text = log.read_text()
    assert re.search(rf"stopped by SIGUSR1 after step \d+ of {STEPS} of sft, whose checkpoint is written", text)
    assert f"job {jobs['sft']} was asked to stop, and queues itself again\n" in text
    assert re.search(rf"job {jobs['sft']}, start 2, on n\[1-2\]: sft --config", text)
    assert "sft: 2 processes on the CPU" in text
    assert text.endswith("ended well\n")
    plain = tmp_path / "plain"
    plain.mkdir()
    two = ("-m", "torch.distributed.run", "--nproc_per_node", "2", "-m", "sft", "--config", recipe / "sft.yaml")
    run(cluster | {"ACCELERATE_USE_CPU": "true"}, plain, *two)
    run(cluster, plain, "-m", "apo", "--config", recipe / "apo.yaml")
    for model in ("sft", "apo/1", "apo/2"):
        weights = [folder / model / "model.safetensors" for folder in (run_folder, plain / "runs" / "it's mine")]
        assert weights[0].read_bytes() == weights[1].read_bytes(), model
    assert (run_folder / "soup" / "model.safetensors").is_file()


def test_a_stage_that_fails_cancels_what_waits_for_it_and_is_named(cluster, recipe, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(rows.read_text().splitlines()[0] + '\n{"messages": 7}' * 20 + "\n")  # submit looks at the first
    jobs = send(cluster, recipe, "soup")
    wait_until(lambda: all_ended(cluster), 120)
    states = [asked(cluster, "scontrol", "-o", "show", "job", jobs[name]) for name in ("sft", "soup")]
    assert ["JobState=FAILED" in states[0], "JobState=CANCELLED" in states[1]] == [True, True]
    told = run(cluster, tmp_path, "-m", "apo_soup", "submit", "soup", recipe)
    last = (
        rf"# sft: an earlier job left it undone; \S.*/sft-{jobs['sft']}\.log ends: .* job {jobs['sft']} \(it's mine-sft"
    )
    assert re.search(rf"{last}\) ended with 2; jobs that wait for it are cancelled\n", told)


WAITS = """
import time
from pathlib import Path
print("here", flush=True)
if not Path("once").exists():
    Path("once").touch()
    time.sleep(100)
"""


def test_a_job_whose_stage_alone_is_ended_is_queued_again_and_a_cancelled_one_is_not(cluster, tmp_path):
    """As Slurm ends them on pre-emption with a grace time, and by scancel."""
    (tmp_path / "waits.py").write_text(WAITS)
    log = tmp_path / "waits.log"
    words = [str(ROOT / "recipes/slurm/stage.sbatch"), f"PATH={Path(sys.executable).parent}:$PATH", "", "waits"]
    sent = ["sbatch", "--parsable", f"--chdir={tmp_path}", f"--output={log}", "--signal=B:USR1@10", *words]
    first, second = [], []
    for number, end in ((first, ["--signal=TERM"]), (second, [])):
        log.unlink(missing_ok=True)
        (tmp_path / "once").unlink(missing_ok=True)
        number.append(asked(cluster | {"PYTHONPATH": str(tmp_path)}, *sent))
        wait_until(lambda: log.is_file() and "here" in log.read_text(), 60)
        asked(cluster, "scancel", *end, number[0])
        wait_until(lambda: all_ended(cluster), 60)
    states = [asked(cluster, "scontrol", "-o", "show", "job", number[0]) for number in (first, second)]
    assert [re.search(r"JobState=(\w+)", state)[1] for state in states] == ["COMPLETED", "CANCELLED"]
    assert [re.search(r"Restarts=(\d)", state)[1] for state in states] == ["1", "0"]
