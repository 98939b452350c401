"""What a training says before its first step and behind its last."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import TrainingArguments

from apo_soup.training.said import beginning, closing_line, processes_in, schedule_misfits

STAGE = SimpleNamespace(name="sft", folder=Path("runs/x/sft"))
ROWS = [
    {"kept": 3, "tokens": 1200, "trained": 40, "rejected": 1, "dropped": 0, "lost": 7},
    {"kept": 2, "tokens": 800, "trained": 10, "rejected": 1, "dropped": 9, "not_drawn": 7, "lost": 0},
]


COUNTED = {"rows": 5, "tokens": 2000, "trained": 50}


def arguments(**keys):
    return TrainingArguments("o", use_cpu=True, report_to="none", **keys)


def block(asked, foretold, sharing=1):
    trainer = SimpleNamespace(args=arguments(), get_total_train_batch_size=lambda args: 4, sharing_size=sharing)
    recipe = SimpleNamespace(model_name_or_path="base")
    return list(beginning(recipe, STAGE, trainer, COUNTED, foretold, asked)(21))


def test_the_block_says_from_what_to_what_where_and_how_long():
    assert block(None, {"seconds": 65.0}) == [
        "sft: base is trained into runs/x/sft",
        "sft: 1 process on the CPU",
        "sft: 5 rows, 2,000 tokens, 50 of them trained; 21 steps of 4, about 1:05 by the plan",
    ]


def test_processes_that_share_rows_are_told():
    assert block(None, None, sharing=2)[1] == "sft: 1 process on the CPU; 2 share each row"


def test_a_schedule_that_does_not_fit_into_the_steps_is_told():
    """Of epochs the steps are known behind the rows alone."""
    decaying = {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": {"num_decay_steps": 16}}
    assert list(schedule_misfits(arguments(warmup_steps=21), 21)) == []
    assert list(schedule_misfits(arguments(warmup_steps=22), 21)) == [
        "the warm-up of 22 steps is longer than the training of 21; its rate is never reached"
    ]
    assert list(schedule_misfits(arguments(warmup_steps=5, **decaying), 21)) == []
    assert list(schedule_misfits(arguments(warmup_steps=0.27, **decaying), 21)) == [
        "the decay of 16 steps is longer than the 15 behind the warm-up, and begins midway"
    ]
    decaying["lr_scheduler_kwargs"]["num_stable_steps"] = 2
    assert list(schedule_misfits(arguments(warmup_steps=6, **decaying), 21)) == []


def test_a_launcher_that_started_fewer_processes_is_told():
    (warning,) = (line for line in block(2, None) if line.startswith("warning: "))
    assert "the launcher was asked for 2 processes, and started 1" in warning
    assert "torchrun --nproc-per-node 2" in warning
    assert "on a CPU accelerate starts one" in warning
    assert len(block(1, None)) == 3


def test_a_launcher_is_told_of_cpus_on_cpus_alone(monkeypatch):
    state = SimpleNamespace(num_processes=1, device=torch.device("meta"))
    monkeypatch.setattr("apo_soup.training.said.PartialState", lambda: state)
    (warning,) = (line for line in block(2, None) if line.startswith("warning: "))
    assert "CPU" not in warning
    assert "--multi_gpu" in warning


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["python", "/env/bin/accelerate", "launch", "--num_processes", "2", "--cpu", "-m", "sft"], 2),
        (["python", "-m", "apo_soup.cli.launch", "--config_file", "cpu.yaml", "-m", "sft"], 3),
        (["python", "-m", "apo_soup.cli.launch", "--config_file", "one.yaml", "-m", "sft"], None),
        (["accelerate", "launch", "--num-processes", "4"], 4),
        (["accelerate", "launch", "--num_processes=2", "-m", "sft"], 2),
        (["python", "-m", "apo_soup.cli.launch", "--config_file=cpu.yaml", "-m", "sft"], 3),
        (["accelerate", "launch", "--config_file", "none.yaml"], None),
        (["accelerate", "launch", "-m", "sft"], None),
        (["bash", "run.sh", "--num_processes", "2"], None),
    ],
)
def test_what_a_launcher_was_asked_for(words, asked, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cpu.yaml").write_text("distributed_type: MULTI_CPU\nnum_processes: 3\n")
    Path("one.yaml").write_text("distributed_type: 'NO'\nnum_processes: 3\n")
    assert processes_in(words) == asked


def test_the_closing_line_names_folder_time_loss_and_rows():
    metrics = {"train_seconds": 75.2, "train_loss": 1.25, "eval_loss": 2.0, "data": ROWS}
    assert closing_line(STAGE, metrics, Path("prepared/a")) == (
        "sft: runs/x/sft written, 1:15 of training; mean loss 1.2500; held-out loss 2.0000; 2 rows could not be used "
        "(prepared/a/rejects.jsonl); 2 rows were left out; 7 tokens were lost to max_length"
    )
    assert closing_line(STAGE, {"train_loss": 1}, Path("p")) == "sft: runs/x/sft written; mean loss 1.0000"
