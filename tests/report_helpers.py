"""A run as large as the demo's: eight checkpoints, sixteen headline scores, curves, a sweep, pairs and samples."""

import json
from pathlib import Path

MODES, LANGUAGES = ("think", "no_think"), ("en", "fr", "es", "de", "it", "pt")
STAGES = ("base", "mid", "sft", "apo/1", "apo/2", "apo/3", "soup", "merged")
# Of 10: what each stage answers right, keeps in mind, and prefers.
SKILL = {"base": (0, 10, 3), "mid": (9, 9, 7), "sft": (9, 8, 1), "merged": (9, 9, 10)}
AFTER_SFT = (9, 7, 10)
PARENTS = {"mid": ["base"], "sft": ["mid"], "soup": ["apo/1", "apo/2", "apo/3"], "merged": ["soup", "mid"]}


def content_hash(name: str) -> str:
    """A hash as evaluations and manifests hold it of a model."""
    return f"{STAGES.index(name):02x}{name.encode().hex():0<62}"[:64]


def demo_like_results(name: str) -> dict:
    """Results of a checkpoint, as `apo-soup eval` writes them."""
    right, kept, preferred = SKILL.get(name, AFTER_SFT)
    metrics, tasks = {}, {}

    def add(kind, metric, tenths, headline=True, better="higher", n=40):
        items = [1.0] * (n * tenths // 10) + [0.0] * (n - n * tenths // 10)
        score = {"value": tenths / 10, "low": max(0, tenths / 10 - 0.1), "high": min(1, tenths / 10 + 0.1), "n": n}
        metrics[metric] = {**score, "better": better, "headline": headline, "items": items}
        task = metric.partition("/")[0]
        tasks.setdefault(task, {"kind": kind, "rows": task, "seconds": 1.0, "metrics": []})["metrics"].append(metric)

    for mode in MODES:
        add("answer", f"problems/{mode}", right if mode == "think" else 0)
        for language in LANGUAGES:
            add("answer", f"problems/{mode}/add-{language}", right if mode == "think" else 0, headline=False)
    add("answer", "problems/obedience", right)
    add("tool", "tools/no_think/valid", right)
    for kind in ("think", "think_to_no_think", "no_think", "no_think_to_think"):
        add("turns", f"turns/{kind}/kept", right)
        for turn in range(1, 6):
            add("turns", f"turns/{kind}/turn_{turn}", right, headline=False, n=10)
    add("consistency", "consistency/agree", right // 2)
    add("consistency", "consistency/agree_right", right // 3)
    for length in (128, 512, 1536):
        add("recall", f"needle/{length}", kept if length == 1536 else 10)
        for depth in (0.0, 0.25, 0.5, 0.75, 1.0):
            add("recall", f"needle/{length}@{depth}", kept, headline=False, n=10)
    for task in ("preference", "think_preference", "trace_preference"):
        add("preference", task, preferred)
    for end in (64, 256, 1536):
        add("context_loss", f"context/{end}", 2, headline=False, better="lower")
    samples = [
        {"task": "problems", "mode": mode, "question": f"Start at {n} then lamp + 6 boat - 2 door - 1 bell - 3?",
         "answer": f"<think>\n{n} lamp + 6 = {n + 6}\n</think>\n{n}\n" * 3, "right": right > n + (mode != "think")}
        for n in range(5) for mode in MODES
    ]  # fmt: skip
    about = {"schema": 2, "name": name, "model": f"runs/x/{name}", "model_hash": content_hash(name), "seed": 0}
    engine = {"transformers": "5", "device": "cpu", "dtype": "float32"}
    return {**about, "suite_hash": "b" * 64, "engine": engine, "tasks": tasks, "metrics": metrics, "samples": samples}


def demo_like_run(folder: Path) -> Path:
    """Write a run as its stages leave it, without weights."""
    for name in STAGES:
        target = folder / "evals" / name.replace("/", "-")
        target.mkdir(parents=True)
        (target / "results.json").write_text(json.dumps(demo_like_results(name)))
        if name != "base":
            _stage(folder, name)
    pairs = {
        "prompts": 700, "train": 433, "test": 129, "drops": {"weak: right too": 132, "strong: wrong": 6},
        "mean_tokens": {"chosen": 46.1, "rejected": 46.3}, "chosen_longer": 0.13, "verified": 1.0,
        "cost": {"strong": {"completion_tokens": 64480}, "weak": {"completion_tokens": 64611}},
    }  # fmt: skip
    _write_manifest(folder, "pairs", {}, {"strong": content_hash("sft")}, pairs, None)
    names = ["needle/1536", "problems/think", "problems/no_think", "tools/no_think/valid", "preference"]
    points = [
        {"weight": weight, "scores": dict.fromkeys(names, 1 - weight / 5),
         "differences": {name: {"low": -0.02, "high": 0.05} for name in names}, "fallen": []}
        for weight in (0.8, 0.85, 0.9, 1.0)
    ]  # fmt: skip
    sweep = {"models": ["soup", "mid"], "metric": names[0], "guardrails": dict.fromkeys(names[1:], 0.0),
             "points": points, "chosen": {"weight": 0.85, "alike": []}, "told": "sweep: soup 0.85"}  # fmt: skip
    (folder / "sweep").mkdir()
    (folder / "sweep" / "sweep.json").write_text(json.dumps(sweep))
    return folder


def _stage(folder: Path, name: str) -> None:
    parents = PARENTS.get(name, ["sft"])
    merged = name in ("soup", "merged")
    sources = [] if merged else [
        {"source": f"runs/tiny/data/{name[:3]}_{what}.jsonl", "mode": mode, "kept": 900, "rejected": 0,
         "tokens": 90_000 // count, "trained": 30_000 // count, "mean_length": 10.0, "lost": 0}
        for count, what in enumerate({"mid": ["think", "asked"], "sft": "abcd"}.get(name, ["rows"]), 1)
        for mode in MODES
    ]  # fmt: skip
    labels = [f"model {n} {parent}" for n, parent in enumerate(parents)] if merged else ["model"]
    inputs = dict(zip(labels, map(content_hash, parents), strict=True))
    weights = (0.85, 0.15) if name == "merged" else (1.0, 1.0, 1.0)
    config = {"learning_rate": 1e-5, "seed": int(name[-1]) if name[-1].isdigit() else 0}
    if merged:
        config = {
            "models": [{"model": f"model {n}", "parameters": {"weight": weights[n]}} for n in range(len(parents))]
        }
    log = [
        {"step": n, "loss": 2 / n, "learning_rate": 1e-5, "grad_norm": 1.0, "rewards/margins": n / 200}
        for n in range(10, 400, 10)
    ]  # fmt: skip
    metrics = {"data": sources, "tokens_seen": 90_000, "train_seconds": 20}
    _write_manifest(folder, name, config, inputs, metrics, None if merged else log)


def _write_manifest(folder: Path, name: str, config: dict, inputs: dict, metrics: dict, log: list | None) -> None:
    (folder / name).mkdir(parents=True)
    written = {"model.safetensors": {"sha256": "0" * 64, "bytes": 4, "mtime_ns": 1_796_000_000 * 10**9}}
    manifest = {"stage": name, "fingerprint": "f", "config": config, "inputs": inputs, "outputs": written,
                "metrics": metrics, "seconds": 60.0, "peak_memory_mb": 100, "command": "python -m sft --config x.yaml",
                "machine": "x86_64, 2 cores, Python 3.11.7", "versions": {}, "git_commit": None}  # fmt: skip
    (folder / name / "manifest.json").write_text(json.dumps(manifest))
    if log:
        (folder / name / "trainer_state.json").write_text(json.dumps({"log_history": log}))
