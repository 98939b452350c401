"""Encoded rows as arrays: small to send between processes or to keep in a file, quick to count and to write."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from apo_soup.data.documents import Array, Batch, Document, Refused
from apo_soup.data.duplicates import Fingerprint
from apo_soup.data.prompt_marks import SKETCH
from apo_soup.data.reading import RowBatch

# What is counted of a document, by its fields.
COUNTS = ("tokens", "trained", "reasoning", "lost", "samples", "shortened")


@dataclass(frozen=True)
class RefusedRow:
    """A row that is not trained on: its number in its batch, its place, and why."""

    number: int
    place: str
    refused: Refused


@dataclass(frozen=True)
class KeptRows:
    """Rows that are trained on, N of them, in D documents of K arrays each.

    Attributes:
        numbers: of the rows among those of their batch, `[N]`.
        times: how often each is taken, `[N]`.
        modes: what modes there are.
        mode: which of them each row has, `[N]`.
        counts: of each row, in the order of `COUNTS`, `[N, 6]`.
        first: the number of each row's first document, `[N]`.
        pieces: in how many documents it is, `[N]`.
        lengths: of the documents' arrays, `[D, K]`.
        tokens: all of these arrays, one behind the other.
        places: of the rows, N of them; none where they are only counted.
        fingerprints: what rows are recognised by; none where nobody looks for duplicates.
        groups: a number that rows of the same prompt share, `[N]`; `[0]` where no rows are held out.
        sketches: of the prompts, `[N, 32]`; likewise.
    """

    numbers: Array
    times: Array
    modes: list[str]
    mode: Array
    counts: Array
    first: Array
    pieces: Array
    lengths: Array
    tokens: Array
    places: list[str]
    fingerprints: list[Fingerprint]
    groups: Array
    sketches: Array

    def __len__(self) -> int:
        return len(self.numbers)

    @classmethod
    def of(cls, batch: Batch) -> "KeptRows":
        """The kept rows of a batch."""
        results = enumerate(zip(batch.rows, batch.results, strict=True))
        rows = [(n, row, r) for n, (row, r) in results if isinstance(r, Document)]
        documents = [document for _, _, document in rows]
        arrays = [array for document in documents for piece in document.parts for array in piece]
        columns = len(documents[0].parts[0]) if documents else 1
        pieces = np.array([len(document.parts) for document in documents], dtype=np.int32)
        modes = sorted({document.mode for document in documents})
        prompts = [document.prompt for document in documents if document.prompt]
        return cls(
            numbers=np.array([n for n, _, _ in rows], dtype=np.int32),
            times=np.array([row.times for _, row, _ in rows], dtype=np.int32),
            modes=modes,
            mode=np.array([modes.index(document.mode) for document in documents], dtype=np.uint8),
            counts=np.array([[getattr(d, name) for name in COUNTS] for d in documents], dtype=np.int32).reshape(-1, 6),
            first=np.cumsum(pieces, dtype=np.int32) - pieces,
            pieces=pieces,
            lengths=np.array([len(array) for array in arrays], dtype=np.int32).reshape(-1, columns),
            tokens=np.concatenate(arrays, dtype=np.int32, casting="same_kind") if arrays else np.zeros(0, np.int32),
            places=[row.row.place for _, row, _ in rows],
            fingerprints=[document.fingerprint for document in documents if document.fingerprint],
            groups=np.array([prompt.group for prompt in prompts], dtype=np.int64),
            sketches=np.array([prompt.sketch for prompt in prompts], dtype=np.uint32).reshape(-1, SKETCH),
        )

    def count(self, name: str) -> Array:
        """One of the `COUNTS` of every row, `[N]`."""
        column: Array = self.counts[:, COUNTS.index(name)]
        return column

    def counted(self) -> "KeptRows":
        """The rows without what their documents hold, for whom they are only counted."""
        return replace(
            self,
            tokens=self.tokens[:0],
            lengths=self.lengths[:0],
            groups=self.groups[:0],
            sketches=self.sketches[:0],
            places=[],
            fingerprints=[],
        )

    def without(self, rows: set[int]) -> "KeptRows":
        """The rows but some, given by their places among these; the documents stay."""
        if not rows:
            return self
        left = np.array([place for place in range(len(self)) if place not in rows], dtype=np.intp)
        by_row: dict[str, Any] = {
            name: getattr(self, name)[left] for name in ("numbers", "times", "mode", "counts", "first", "pieces")
        }
        if len(self.groups):
            by_row |= {"groups": self.groups[left], "sketches": self.sketches[left]}
        for name in ("places", "fingerprints"):
            of_rows = getattr(self, name)
            by_row[name] = [of_rows[place] for place in left] if of_rows else []
        return replace(self, **by_row)


@dataclass(frozen=True)
class EncodedBatch:
    """What became of the rows of a batch.

    `read`, `not_drawn`, `nulls` and `missing` are those of the `RowBatch`; `arguments`, `unread` and `remarks` those of
    the `Batch`.
    """

    source: str
    read: int
    not_drawn: int
    nulls: int
    missing: set[str] | None
    refused: list[RefusedRow]
    kept: KeptRows
    arguments: set[str]
    unread: Counter[tuple[str, str]]
    remarks: Counter[tuple[str, str]]

    @classmethod
    def of(cls, rows: RowBatch, batch: Batch) -> "EncodedBatch":
        """From the rows and what an encoder made of them."""
        results = enumerate(zip(batch.rows, batch.results, strict=True))
        refused = [RefusedRow(n, row.row.place, r) for n, (row, r) in results if isinstance(r, Refused)]
        return cls(
            source=rows.source.name,
            read=rows.read,
            not_drawn=rows.not_drawn,
            nulls=rows.nulls,
            missing=rows.missing,
            refused=refused,
            kept=KeptRows.of(batch),
            arguments=batch.arguments,
            unread=batch.unread,
            remarks=batch.remarks,
        )
