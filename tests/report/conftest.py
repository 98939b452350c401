"""A run with results, manifests and logs, as its stages leave them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from report_helpers import demo_like_run


def checkpoint_results(name: str, think: int, needles: int, preferred: int) -> dict:
    """An evaluation with single items, as `apo-soup eval` writes it."""
    metrics, tasks = {}, {}

    def add(task, kind, metric, items, headline=True, better="higher"):
        value = sum(items) / len(items)
        entry = {"value": value, "low": max(0, value - 0.1), "high": value + 0.1, "n": len(items), "better": better}
        metrics[metric] = {**entry, "headline": headline, "items": items}
        tasks.setdefault(task, {"kind": kind, "rows": task, "seconds": 1.0, "metrics": []})["metrics"].append(metric)

    add("problems", "answer", "problems/think", [1] * think + [0] * (40 - think))
    add("problems", "answer", "problems/no_think", [0] * 40)
    for length, found in ((128, 40), (1536, needles)):
        add("needle", "recall", f"needle/{length}", [1] * found + [0] * (40 - found))
        for depth in (0.0, 0.5, 1.0):
            add("needle", "recall", f"needle/{length}@{depth}", [1] * 8 + [0] * 2, headline=False)
    add("preference", "preference", "preference", [1] * preferred + [0] * (40 - preferred))
    for end in (64, 1536):
        add("context", "context_loss", f"context/{end}", [2.0, 2.5], headline=False, better="lower")
    question = "A very long question " + "x" * 300
    samples = [
        {
            "task": "problems",
            "mode": mode,
            "question": question,
            "answer": f"<think> {'w' * 200} </think>",
            "right": True,
        }
        for mode in ("think", "no_think")
    ]
    about = {"schema": 2, "name": name, "model": f"runs/x/{name}", "model_hash": "a", "suite_hash": "b" * 64, "seed": 0}
    engine = {"harness": "transformers", "transformers": "5", "device": "cpu", "dtype": "float32"}
    return {**about, "engine": engine, "tasks": tasks, "metrics": metrics, "samples": samples}


# Right answers of 40: thinking problems, needles in long contexts, preferences.
RUN = {"base": (1, 40, 39), "mid": (2, 39, 30), "sft": (36, 34, 24), "apo/1": (37, 34, 37), "soup": (37, 34, 37),
       "merged": (36, 40, 37)}  # fmt: skip


@pytest.fixture
def results() -> Callable[..., dict]:
    """`checkpoint_results`, for tests."""
    return checkpoint_results


@pytest.fixture
def run(tmp_path) -> Path:
    folder = tmp_path / "run"
    for name, scores in RUN.items():
        target = folder / "evals" / name.replace("/", "-")
        target.mkdir(parents=True)
        (target / "results.json").write_text(json.dumps(checkpoint_results(name, *scores)))
    log = [{"step": n, "loss": 1 / n, "learning_rate": 1e-5, "grad_norm": 1.0, "rewards/margins": n / 10}
           for n in range(1, 900)]  # fmt: skip
    for name in ("mid", "apo/1", "apo/2"):
        (folder / name).mkdir(parents=True)
        (folder / name / "trainer_state.json").write_text(json.dumps({"log_history": log}))
        source = {"source": "a/long/path/to/the/rows.jsonl", "mode": "think", "kept": 9, "rejected": 0, "tokens": 90,
                  "trained": 30, "mean_length": 10.0, "lost": 0}  # fmt: skip
        manifest = {"stage": name, "fingerprint": "f", "config": {"seed": 1, "learning_rate": 1e-5},
                    "inputs": {"model": "c" * 64},
                    "outputs": {}, "metrics": {"data": [source], "train_seconds": 2, "tokens_seen": 90}, "seconds": 3.0,
                    "peak_memory_mb": 100, "machine": "x", "command": "python -m sft", "versions": {"torch": "2"},
                    "git_commit": "d" * 40}  # fmt: skip
        (folder / name / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.fixture
def demo_run(tmp_path) -> Path:
    """A run as large as the demo's."""
    return demo_like_run(tmp_path / "demo")
