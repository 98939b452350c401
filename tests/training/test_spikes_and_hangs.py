"""What a training says of a step that is far off, and of one that does not end; and goes on as if nothing was."""

import json
import re

from helpers import TRAINING, chat
from programs import program, run_ok

from apo_soup.training.checkpoints import last_checkpoint

# One row in 60 is of other signs than all others.
ROWS = [chat(f"{a % 5} + 1?", f"{a % 5 + 1}", False) for a in range(60)]
ROWS[7] = chat("Zz?", "@@ ##~ QWXZ ||{{}} <<>> Jvkq Jvkq ~~", False)
OPTIONS = {
    "max_steps": 30,
    "packing": False,
    "assistant_only_loss": True,
    "logging_steps": 4,
    "save_steps": 100,
    "spike_factor": 3,
}


def test_a_run_that_stops_at_a_spike_goes_on_from_the_step_before_to_the_same_bytes(
    write_rows, write_recipe, tiny_model, tmp_path
):
    rows = {"dataset_mixture": {"datasets": [{"id": str(write_rows("rows.jsonl", ROWS))}], "seed": 0}}
    keys = TRAINING | OPTIONS | {"model_name_or_path": str(tiny_model)} | rows
    path = write_recipe("sft.yaml", keys | {"output_dir": str(tmp_path / "whole" / "sft")})
    slow = program("-m", "sft", "--config", path, "--hang_minutes", "1e-5")
    assert slow.returncode == 0, slow.stderr
    step = int(re.search(r"sft: step (\d+) is far off: a loss ", slow.stdout)[1])
    assert f"{tmp_path}/rows.jsonl:8" in slow.stdout.partition("; its rows are ")[2].partition("\n")[0]

    # Every step takes longer than that; each is told of, with its rows and where the program is.
    hung = [line for line in slow.stderr.splitlines() if "has ended no step for 1e-05 minutes" in line]
    first = next(line for line in hung if " at step 1 of 30, of " in line)
    assert re.search(
        r"sft: rank 0 has .*, of \S*rows.jsonl:\d+, \S*rows.jsonl:\d+; its threads follow, and again", first
    )
    assert "Thread 0x" in slow.stderr
    assert "sft: rank 0: goes on, after " in slow.stderr

    path = write_recipe("sft.yaml", keys | {"output_dir": str(tmp_path / "stopped" / "sft"), "save_only_model": True})
    stopped = program("-m", "sft", "--config", path, "--on_spike", "stop")
    assert stopped.returncode == 2
    assert f"sft: step {step}: expected a step like those before it, got a loss " in stopped.stderr
    assert (
        f"a checkpoint of step {step - 1} is kept, from which the same command with `--on_spike say`" in stopped.stderr
    )
    assert "Traceback" not in stopped.stderr
    assert last_checkpoint(tmp_path / "stopped" / ".sft.partial").name == f"checkpoint-{step - 1}"
    assert f"sft: step {step} is far off: a loss " in run_ok("-m", "sft", "--config", path)
    folders = [tmp_path / name / "sft" for name in ("whole", "stopped")]
    weights = {(folder / "model.safetensors").read_bytes() for folder in folders}
    losses = {json.dumps(json.loads((f / "manifest.json").read_text())["metrics"]["train_loss"]) for f in folders}
    assert (len(weights), len(losses)) == (1, 1)
