"""Hashes of the project's own code, for what must be made again when the code that made it changes."""

from pathlib import Path

from apo_soup.hashing import hash_tree

# Where the packages of this project lie side by side: a checkout, or site-packages.
PROJECT = Path(__file__).parents[2]


def code_hash(package: str) -> str:
    """Hash of the Python files of one of the project's packages, named by its path such as `apo_soup/data`."""
    return hash_tree(PROJECT / package)
