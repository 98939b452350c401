"""The run that `torture_stages.py` breaks: its recipe and its stages, and what of its files is to be the same whatever
happened to it and to its disk.
"""

import contextlib
import hashlib
import json
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from torture import ROOT

# Of JSON, what depends on the machine and the moment.
MOMENTARY = re.compile(
    r"second|runtime|per_second|memory|machine|command|commit|versions|begun_as|created|mtime|modified"
)


@dataclass(frozen=True)
class Tried:
    """A stage: its program's words, what it makes below `run/`, and where it keeps checkpoints."""

    name: str
    words: tuple[str, ...]
    makes: tuple[str, ...]
    partial: str | None = None


STAGES = (
    Tried("prepare", ("apo_soup", "prepare", "--config", "sft.yaml"), ("prepared/sft-*",)),
    Tried("mid", ("sft", "--config", "mid.yaml"), ("mid", "prepared/mid-*"), ".mid.partial"),
    Tried("sft", ("sft", "--config", "sft.yaml"), ("sft", "prepared/sft-*"), ".sft.partial"),
    Tried("traces", ("apo.traces", "--config", "traces.yaml"), ("traces",)),
    Tried("pairs", ("apo.pairs", "--config", "pairs.yaml"), ("pairs",)),
    Tried("apo", ("apo", "--config", "apo.yaml"), ("apo/[0-9]*", "prepared/apo-*"), "apo/.1.partial"),
    Tried("soup and merge", ("merge", "--config", "merge.yaml"), ("soup", "merged")),
    Tried("sweep", ("merge.sweep", "--config", "merge.yaml"), ("sweep",)),
    Tried("eval", ("apo_soup", "eval", "--config", "eval.yaml"), ("evals/[a-z]*",)),
    Tried("report", ("apo_soup", "report", "."), ("report.html", "pipeline.svg", "table.json")),
)


def write_recipe(folder: Path) -> None:
    """The stage files of a run of seconds."""
    training = {
        "dtype": "float32", "bf16": False, "use_cpu": True, "gradient_checkpointing": False, "learning_rate": 1e-4,
        "max_length": 128, "per_device_train_batch_size": 2, "max_steps": 6, "save_strategy": "steps", "save_steps": 2,
        "save_total_limit": 1, "logging_steps": 2, "seed": 1,
    }  # fmt: skip

    def mixture(rows: str) -> dict:
        return {"dataset_mixture": {"datasets": [{"id": f"run/data/{rows}.jsonl"}]}}

    asked = {"prompts": "run/data/pair_prompts.jsonl", "max_new_tokens": 24, "candidates": 1, "mode": "no_think"}
    counts = {"mid_think": 24, "sft_no_think": 24, "preference": 16, "pair_prompts": 8, "heldout_problems": 4,
              "heldout_pairs": 4}  # fmt: skip
    files = {
        "data": {"output_dir": "run/data", "counts": counts},
        "mid": training | mixture("mid_think") | {
            "model_name_or_path": str(ROOT / "recipes/tiny/base"), "chat_template": "apo-soup",
            "output_dir": "run/mid", "packing": True, "packing_strategy": "wrapped",
        },
        "sft": training | mixture("sft_no_think") | {"model_name_or_path": "run/mid", "output_dir": "run/sft"},
        "traces": asked | {"output_dir": "run/traces", "strong": {"model": "run/sft"}, "keep": "any"},
        "pairs": asked | {"output_dir": "run/pairs", "strong": {"model": "run/sft"}, "weak": {"model": "run/mid"},
                          "keep": "strong_over_weak"},
        "apo": training | mixture("preference") | {
            "model_name_or_path": "run/sft", "output_dir": "run/apo", "loss_type": "apo_zero", "max_steps": 4,
            "members": [{"seed": 1}, {"seed": 2}], "precompute_ref_log_probs": True,
        },
        "merge": {
            "output_dir": "run", "soup": {"members": "all", "dtype": "float32"},
            "merge": {"merge_method": "linear", "dtype": "float32", "models": [
                {"model": name, "parameters": {"weight": weight}} for name, weight in (("soup", 0.9), ("mid", 0.1))]},
            "sweep": {"weights": [0.0, 1.0], "tasks": ["preference"]},
        },
        "eval": {
            "output_dir": "run/evals", "models": {"mid": "run/mid", "merged": "run/merged"}, "tasks": [
                {"name": "preference", "kind": "preference", "data": "run/data/heldout_pairs.jsonl"},
                {"name": "problems", "kind": "answer", "data": "run/data/heldout_problems.jsonl", "verifier": "number",
                 "max_new_tokens": 4}],
        },
    }  # fmt: skip
    for name, values in files.items():
        (folder / f"{name}.yaml").write_text(json.dumps(values))


def lasting(value: object) -> object:
    """A JSON value without what depends on the machine and the moment."""
    if isinstance(value, dict):
        return {k: lasting(v) for k, v in value.items() if not MOMENTARY.search(k)}
    return [lasting(each) for each in value] if isinstance(value, list) else value


def essence(file: Path) -> object:
    """What of a file another run of the same must have too."""
    if file.name == "manifest.json":  # it holds the hashes of files that hold times
        return json.loads(file.read_text())["fingerprint"]
    if file.suffix == ".json":
        return lasting(json.loads(file.read_text()))
    return (
        None if file.name in ("README.md", "begun.json") or file.suffix in (".lock", ".holder") else file.read_bytes()
    )


def below(run: Path) -> set[str]:
    """The files of a run, but locks of prepared rows, which stay: a holder's name beside one, whose removal was
    refused, is that of a process which is seen to be gone.
    """
    files = {file.relative_to(run).as_posix() for file in run.rglob("*") if file.is_file()}
    return {name for name in files if not re.fullmatch(r"prepared/\.[^/]*\.(lock|holder)", name)}


def is_as_recorded(checkpoint: Path) -> bool:
    """Whether a checkpoint's files are those of its record, byte for byte; looked at without the code that is tried."""
    try:
        records = json.loads((checkpoint / "whole").read_text())["files"]
        recorded = {name: (record["bytes"], record["sha256"]) for name, record in records.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    files = [file for file in checkpoint.rglob("*") if file.is_file() and file.name != "whole"]
    contents = {file.relative_to(checkpoint).as_posix(): file.read_bytes() for file in files}
    return "optimizer.pt" in contents and recorded == {
        name: (len(content), hashlib.sha256(content).hexdigest()) for name, content in contents.items()
    }


def damage(file: Path, draw: random.Random) -> None:
    """Cut, change, empty or remove a file."""
    content = file.read_bytes()
    kind = draw.choice(("cut", "changed", "empty", "gone"))
    if kind == "gone":
        file.unlink()
    elif kind == "changed" and content:
        at = draw.randrange(len(content))
        file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    else:
        file.write_bytes(content[: draw.randrange(len(content) + 1)] if kind == "cut" else b"")


@contextlib.contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """A file system of its own on an empty folder."""
    shutil.rmtree(folder)
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    """Change what a mounted file system allows."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)
