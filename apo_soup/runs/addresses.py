"""Addresses, as they stand in a browser, where an id or a path of a model or a data set is expected."""

import re
from itertools import takewhile
from pathlib import Path
from typing import Literal

from apo_soup.config.file_names import row_kind

_OF_HUB = re.compile(r"(?:https?://(?:www\.)?(?:huggingface\.co|hf\.co)/|hf://)([^?#]*)")
# What stands behind an id in an address of one of its pages.
_BEHIND_ID = frozenset(
    ("tree", "blob", "resolve", "raw", "viewer", "embed", "commit", "commits", "discussions", "edit", "settings")
)
# Folders of data sets whose id had no owner, as pandas and DuckDB read them.
_FOLDERS = frozenset(("data", "default", "plain_text", "train", "test", "validation"))
# What no owner is, at the place of one.
_NO_OWNER = frozenset(
    ("api", "blog", "chat", "collections", "datasets", "docs", "kernels", "learn", "models", "organizations", "papers",
     "posts", "settings", "spaces", "tasks")
)  # fmt: skip


def instead_of_address(name: str, kind: Literal["model", "data set"]) -> str | None:
    """What to write in place of an address where a `kind` is expected; None where a name is no address.

    >>> instead_of_address("https://huggingface.co/datasets/openai/gsm8k/tree/main", "data set")
    'write the id openai/gsm8k'
    >>> instead_of_address("https://huggingface.co/datasets/squad", "data set")
    'write its whole id, OWNER/squad, as its page has it'
    >>> instead_of_address("https://example.org/rows.jsonl", "data set")
    'bring it here, and write the path'
    >>> instead_of_address("$DATA/rows.jsonl", "data set")
    'write the path itself, for a file has no variables'
    """
    found = _OF_HUB.match(name)
    if not found:
        return "bring it here, and write the path" if "://" in name else _instead_of_shells(name)
    parts = [part for part in found[1].split("/") if part]
    theirs = "data set" if parts[:1] == ["datasets"] else "model"
    first, *rest = parts[theirs == "data set" :] or ("datasets",)
    if first in _NO_OWNER:
        return f"write the id of a {kind}, or its path"
    if theirs != kind:
        return f"write the id of a {kind}, for this is a {theirs}'s"
    # A revision stands behind the whole id, so that which has one has no owner.
    second = [] if "@" in first else list(takewhile(_may_be_name, rest[:1]))
    whole = "/".join(part.partition("@")[0] for part in (first, *second))
    way = f"write the id {whole}" if second else f"write its whole id, OWNER/{whole}, as its page has it"
    file = rest[-1] if kind == "data set" and rest and row_kind(Path(rest[-1])) else None
    return f"bring {file} here and write its path, or, for all its files, {way}" if file else way


def _instead_of_shells(path: str) -> str | None:
    """What to write in place of a path as a shell, or another system, has it."""
    if "$" in path:
        return "write the path itself, for a file has no variables"
    return "write / between folders" if "\\" in path else None


def _may_be_name(part: str) -> bool:
    """Whether a part of an address, behind an owner, may be a name, and not a page, a file or a folder of what has no
    owner.
    """
    return part not in _BEHIND_ID and part not in _FOLDERS and row_kind(Path(part)) is None
