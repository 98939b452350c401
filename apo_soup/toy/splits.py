"""Which split a problem belongs to: a pure function of the problem, so no two splits ever share one."""

import hashlib

# Settings are chosen on `tuning`, and what is shown is measured on `heldout`.
SPLITS = {"train": (0, 70), "preference": (70, 80), "tuning": (80, 85), "heldout": (85, 100)}


def split_of(identity: str) -> str:
    """Name of the split that owns the problem with this identity.

    >>> split_of("add 47 38")
    'train'
    """
    bucket = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") % 100
    return next(name for name, (low, high) in SPLITS.items() if low <= bucket < high)
