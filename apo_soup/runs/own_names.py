"""Names of things as names of folders and files: one each, whatever they are called."""

import re

from apo_soup.hashing import hash_value

# Letters of the hash that tells two names, or two folders, apart.
MARK_LETTERS = 8
# Characters of a name that are kept; a file's name may be of 255 bytes.
MOST_CHARACTERS = 60
_ODD = re.compile(r"[^\w.@+=-]")


def name_mark(text: str) -> str:
    """What tells one name or path from others that look alike."""
    return hash_value(text)[:MARK_LETTERS]


def plain_name(name: str) -> str:
    """A model's name as the name of a folder, which others may share.

    >>> plain_name("apo/1"), plain_name("mix/half"), plain_name("../up")
    ('apo-1', 'mix-half', '-.-up')
    """
    flat = _ODD.sub("-", name)
    return (f"-{flat[1:]}" if flat.startswith(".") else flat)[:MOST_CHARACTERS]


def marked_name(name: str) -> str:
    """A model's name as the name of a folder that is nobody else's."""
    return f"{plain_name(name)}.{name_mark(name)}"


def own_file_name(name: str) -> str:
    """A name as that of a file: as it is where that may be, else marked, since another name may look like it.

    >>> own_file_name("lcb-1"), own_file_name("lcb 1")
    ('lcb-1', 'lcb-1.1b113886')
    """
    return name if plain_name(name) == name else marked_name(name)
