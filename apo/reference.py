"""Where reference log-probabilities are kept: on disk, computed once for the same weights, pairs and precision.

The key is content: the reference model's files, the prepared pairs, the precision. Members, later runs with another
beta or learning rate, and resumed runs find the file; changed weights or rows make another key.
"""

import hashlib
import os
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from apo_soup.config.apo import ApoFile
from apo_soup.errors import first_line
from apo_soup.hashing import hash_value
from apo_soup.progress import warn
from apo_soup.runs.code_hash import code_hash
from apo_soup.runs.durable import sync_path
from apo_soup.runs.sources import model_hash

# In the header of a file of values: their hash.
_HASH = "sha256"
# The module that computes the values.
COMPUTING = "apo.reference_pass"


@dataclass(frozen=True)
class ReferenceStore:
    """A folder of files, one a key. `content` is everything that decides the values, beside the split's name."""

    folder: Path
    content: dict[str, str]

    def with_content(self, **more: Any) -> "ReferenceStore":
        """The store of values that this decides too, such as the precision they are computed in."""
        return replace(self, content={**self.content, **{name: str(value) for name, value in more.items()}})

    def key(self, split: str) -> str:
        """The name of a split's values."""
        return hash_value({**self.content, "split": split})[:24]

    def locked(self, split: str) -> FileLock:
        """A lock that only one job at a time holds, so that members started together compute once."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.file(split).with_suffix(".lock"))

    def file(self, split: str) -> Path:
        """The file of a split's values, whether it is there or not."""
        return self.folder / f"{self.key(split)}.safetensors"

    def read(self, split: str, pairs: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Log-probabilities `[pairs]` of chosen and rejected answers, or None where they were not computed yet. A file
        that holds anything else is left out with a line, and written anew.
        """
        file = self.file(split)
        if not file.is_file():
            return None
        try:
            with safe_open(file, "pt") as opened:
                values = opened.get_tensor("chosen"), opened.get_tensor("rejected")
                recorded = (opened.metadata() or {}).get(_HASH)
        except (SafetensorError, OSError) as error:
            warn(f"reference: {file} cannot be read ({first_line(error)}); it is computed again")
            return None
        if any(side.shape != (pairs,) or side.dtype != torch.float32 or not side.isfinite().all() for side in values):
            warn(f"reference: {file} does not hold {pairs:,} finite numbers a side; it is computed again")
            return None
        if recorded != values_hash(*values):
            warn(f"reference: {file} has changed since it was written; it is computed again")
            return None
        return values

    def write(self, split: str, chosen: torch.Tensor, rejected: torch.Tensor) -> None:
        """Put log-probabilities `[pairs]` of chosen and rejected answers into place, as a whole file."""
        file = self.file(split)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        chosen, rejected = chosen.contiguous(), rejected.contiguous()
        # Not `save_file`, whose file is this account's alone, whatever the umask says.
        partial.write_bytes(save({"chosen": chosen, "rejected": rejected}, {_HASH: values_hash(chosen, rejected)}))
        sync_path(partial)
        partial.replace(file)


def values_hash(chosen: torch.Tensor, rejected: torch.Tensor) -> str:
    """SHA-256 of log-probabilities `[pairs]`: a page that the disk lost reads as zeros, which are numbers too."""
    return hashlib.sha256(torch.stack((chosen, rejected)).float().numpy().tobytes()).hexdigest()


def reference_store(recipe: ApoFile, prepared: Path) -> ReferenceStore:
    """Where this model's log-probabilities of these pairs are kept, beside the folder of prepared pairs.

    Raises:
        UserError: the model is not there, or is not a whole model folder.
    """
    # The model itself is in its hash, and adapters are switched off for the reference.
    loading = {name: str(value) for name, value in recipe.given_with("loading").items()}
    revision = recipe.model_revision if recipe.gives("model_revision") else None
    content = {
        "model": model_hash(recipe.model_name_or_path, recipe.place("model_name_or_path"), revision),
        # The hash at the end of the name is of the pairs' content; the rest is the stage's.
        "pairs": prepared.name.rpartition("-")[2],
        "loading": hash_value(loading),
        "code": code_hash(COMPUTING),
        "libraries": hash_value([version(name) for name in ("torch", "transformers")]),
    }
    return ReferenceStore(prepared.parent.parent / "reference", content)
