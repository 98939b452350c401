"""Small things several tests need."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

TINY_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}

TRAINING = {
    "dtype": "float32",
    "bf16": False,
    "use_cpu": True,
    "gradient_checkpointing": False,
    "max_length": 64,
    "per_device_train_batch_size": 2,
    "learning_rate": 1.0e-2,
    "logging_steps": 1,
    "save_strategy": "steps",
    "save_steps": 2,
    "save_total_limit": 2,
    "seed": 3,
}


# A file of weights that holds no tensor.
NO_WEIGHTS = (2).to_bytes(8, "little") + b"{}"
# With compiled modules kept, as a person's shell has it; the next program of a test would compile them anew.
ENVIRONMENT = os.environ | {
    "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "",
}  # fmt: skip


def python(*words: str, cwd: Path = ROOT, timeout: float = 300) -> subprocess.CompletedProcess:
    """Run a fresh `python WORDS` with the project importable, one thread, and no network tried."""
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=timeout
    )


def chat(user: str, assistant: str, think: bool | None = None) -> dict:
    """One supervised row."""
    row = {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]}
    return row if think is None else {**row, "chat_template_kwargs": {"enable_thinking": think}}


def preference(user: str, chosen: str, rejected: str, think: bool = False) -> dict:
    """One preference row."""
    return {
        "prompt": [{"role": "user", "content": user}],
        "chosen": [{"role": "assistant", "content": chosen}],
        "rejected": [{"role": "assistant", "content": rejected}],
        "chat_template_kwargs": {"enable_thinking": think},
    }


def state_dict(folder: Path) -> dict:
    from safetensors.torch import load_file

    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(file)
    return tensors


def whole_results(**given: object) -> dict:
    """What results.json holds, with some of it given."""
    about = {"schema": 2, "name": "m", "model": "runs/x/m", "model_hash": "a" * 64, "suite_hash": "b" * 64, "seed": 0}
    engine = {"transformers": "5", "device": "cpu", "dtype": "float32"}
    return about | {"engine": engine, "tasks": {}, "metrics": {}, "samples": []} | given


def counted_source(**given: object) -> dict:
    """What a manifest says of the rows of a source, with some of it given."""
    counts = {"kept": 3, "rejected": 0, "tokens": 10, "trained": 4, "lost": 0, "mean_length": 3.3}
    return {"source": "rows.jsonl", "mode": "think"} | counts | given
