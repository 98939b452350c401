"""The word that a mistyped one was to be: one rule for keys, values, options, commands and names of layers."""

import difflib
import re
from collections.abc import Iterable
from typing import Any


def near_word(word: Any, words: Iterable[str], alike: float = 0.6) -> str | None:
    """The one of `words` that is like `word`; None where none is near enough to have been meant, which is `alike` by
    difflib's measure, where 1 is the same. Of those that begin with it and `_`, which it is short for, the first.

    >>> near_word("wieght", ["weight", "seed"]), near_word("adamw", ["grokadamw", "adamw_torch"])
    ('weight', 'adamw_torch')
    >>> near_word("zz", ["weight", "seed"]) is None
    True
    >>> near_word("DATA-SET MIXTURE", ["dataset_mixture"])
    'dataset_mixture'
    """
    if not isinstance(word, str):
        return None
    known = list(words)
    same = next((other for other in known if _bare(other) == _bare(word)), None)
    if same is not None:
        return same
    longer = [other for other in known if word and other.startswith(f"{word}_")]
    return next(iter(longer or difflib.get_close_matches(word, known, n=1, cutoff=alike)), None)


def _bare(word: str) -> str:
    """A word without what people write otherwise: capitals, and what stands between its parts."""
    return re.sub(r"[\W_]", "", word).lower() or word


def nearest(word: Any, words: Iterable[str]) -> str:
    """What to do about a mistyped word where one is near it, or no text.

    >>> nearest("sed", ["weight", "seed"])
    'the nearest is seed'
    """
    near = near_word(word, words)
    return f"the nearest is {near}" if near else ""
