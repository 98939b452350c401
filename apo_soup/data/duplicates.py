"""Rows that are there twice, or nearly twice.

A row's fingerprint is taken wherever it is encoded; `Duplicates` remembers rows and runs in one place, in the rows'
order, so the first of several is the one that stays.
"""

import hashlib
import json
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from apo_soup.data.conversations.conversation import RowItem
from apo_soup.data.document_file import DocumentFile
from apo_soup.data.words import item_content, item_setting, item_texts, shingles, words

PERMUTATIONS = 128
SCHEME = "affine32"
# How far below the threshold MinHash looks for candidates: five standard errors of its estimate at 0.8.
CANDIDATE_MARGIN = 0.18


@dataclass(frozen=True)
class NearFingerprint:
    """The hashes of a row's 5-word shingles, each once, and the MinHash values of them, `[128]`; `setting` is a hash of
    what else makes a row another one: its mode, tools and masks.
    """

    shingles: np.ndarray
    minhash: np.ndarray
    setting: int


@dataclass(frozen=True)
class Fingerprint:
    """What a row is recognised by: a digest of its words and, where near duplicates are asked for and there are words,
    its shingles.
    """

    digest: bytes
    near: NearFingerprint | None = None


def fingerprint(item: RowItem, near: bool) -> Fingerprint:
    """What `Duplicates` needs of a row."""
    setting = item_setting(item)
    content = json.dumps([setting, item_content(item)], sort_keys=True, default=str)
    digest = hashlib.sha256(content.encode()).digest()[:16]
    row_words = words(" ".join(item_texts(item))) if near else []
    if not row_words:
        return Fingerprint(digest)
    runs = [s.encode() for s in shingles([item.mode, *row_words])]
    sketch = _empty_sketch().copy()
    sketch.update_batch(runs)
    hashes = np.unique(np.array([zlib.crc32(run) for run in runs], dtype=np.uint32).view(np.int32))
    # The texts among the arguments are words like others, and are compared as such.
    apart = json.dumps({k: v for k, v in setting.items() if not isinstance(v, str)}, sort_keys=True, default=str)
    return Fingerprint(digest, NearFingerprint(hashes, sketch.hashvalues, zlib.crc32(f"{item.mode} {apart}".encode())))


@cache
def _empty_sketch() -> Any:
    from datasketch import MinHash

    return MinHash(PERMUTATIONS, scheme=SCHEME)


class Duplicates:
    """Rows seen so far. Memory grows with the rows: 16 bytes each for exact ones, some 2 KB each for near ones.

    Two rows are near when the Jaccard similarity of their 5-word shingles reaches the threshold (Broder, "On the
    resemblance and containment of documents", 1997). MinHash finds those that may be, well below the threshold, and the
    shingles themselves, kept in a file in `folder`, decide.
    """

    def __init__(self, near: bool, threshold: float, folder: Path):
        self.digests: dict[bytes, str] = {}
        self.near = _NearDuplicates(threshold, folder / "shingles.bin") if near else None

    def duplicate_of(self, mark: Fingerprint, place: str) -> str | None:
        """Why this row is a duplicate of an earlier one, in a sentence, or None, and then it is remembered."""
        first = self.digests.get(mark.digest)
        if first:
            return f"the same as {first}"
        if self.near is not None and mark.near is not None:
            reason = self.near.duplicate_of(mark.near, place)
            if reason:
                return reason
        self.digests[mark.digest] = place
        return None

    def close(self) -> None:
        """Remove the file of shingles."""
        if self.near is not None:
            self.near.close()


class _NearDuplicates:
    """Shingles of the rows seen so far, in a file, behind an index of their MinHash values."""

    def __init__(self, threshold: float, path: Path):
        from datasketch import MinHashLSH

        self.threshold = threshold
        self.index = MinHashLSH(threshold=threshold - CANDIDATE_MARGIN, num_perm=PERMUTATIONS, weights=(0.1, 0.9))
        self.places: list[tuple[str, int]] = []
        self.path = path
        self.shingles = DocumentFile(path, 1)

    def duplicate_of(self, mark: NearFingerprint, place: str) -> str | None:
        from datasketch import MinHash

        sketch = MinHash(hashvalues=mark.minhash, scheme=SCHEME)
        candidates = [other for other in sorted(self.index.query(sketch)) if self.places[other][1] == mark.setting]
        if candidates:
            self.shingles.flush()
        for other in candidates:
            similarity = jaccard(mark.shingles, self.shingles.read(other)[0])
            if similarity >= self.threshold:
                return f"nearly the same as {self.places[other][0]} (similarity {similarity:.2f})"
        self.index.insert(self.shingles.append([mark.shingles]), sketch)
        self.places.append((place, mark.setting))
        return None

    def close(self) -> None:
        self.shingles.close()
        self.path.unlink()


def jaccard(one: np.ndarray, two: np.ndarray) -> float:
    """Shared share of two sets of hashes, each an array of different values.

    >>> jaccard(np.array([1, 2, 3]), np.array([2, 3, 4]))
    0.5
    """
    both = len(np.intersect1d(one, two, assume_unique=True))
    return both / (len(one) + len(two) - both)
