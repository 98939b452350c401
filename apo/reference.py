"""Reference log-probabilities on disk, computed once for the same weights, pairs and precision.

The key is content: the reference model's files, the prepared pairs, the precision. Members, later runs with another
beta or learning rate, and resumed runs find the file; changed weights or rows make another key.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from safetensors import safe_open
from safetensors.torch import save_file

from apo_soup.hashing import hash_value


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
        return self.folder / f"{self.key(split)}.safetensors"

    def read(self, split: str, pairs: int) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Log-probabilities `[pairs]` of chosen and rejected answers, or None where they were not computed yet."""
        file = self.file(split)
        if not file.is_file():
            return None
        with safe_open(file, "pt") as opened:
            chosen, rejected = opened.get_tensor("chosen"), opened.get_tensor("rejected")
        return (chosen, rejected) if len(chosen) == pairs else None

    def write(self, split: str, chosen: torch.Tensor, rejected: torch.Tensor) -> None:
        """Put the values into place as a whole."""
        file = self.file(split)
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(f".{os.getpid()}.partial")
        save_file({"chosen": chosen.contiguous(), "rejected": rejected.contiguous()}, partial)
        partial.replace(file)
