"""Folders that are absent or whole: a hidden sibling to work in, and the finished folder in an older one's place."""

import shutil
from pathlib import Path

from apo_soup.runs.durable import sync_path


def hidden_sibling(folder: Path, kind: str) -> Path:
    """`.NAME.KIND` beside a folder, such as `.sft.partial`."""
    return folder.parent / f".{folder.name}.{kind}"


def restore(folder: Path) -> None:
    """Put back what had stepped aside for a new folder that never came to stand, because the process was killed between
    the two renames.
    """
    old = hidden_sibling(folder, "old")
    if old.is_dir() and not folder.exists():
        old.rename(folder)


def replace_folder(new: Path, final: Path) -> None:
    """Rename `new` to `final`; an older `final` steps aside first and is removed after."""
    final.parent.mkdir(parents=True, exist_ok=True)
    old = hidden_sibling(final, "old")
    shutil.rmtree(old, ignore_errors=True)
    if final.exists():
        final.rename(old)
    new.rename(final)
    sync_path(final.parent)
    shutil.rmtree(old, ignore_errors=True)
