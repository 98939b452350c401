"""From the documents of all kept rows to packed training and test splits on disk."""

import json
import random
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from apo_soup.data.document_file import DocumentFile
from apo_soup.data.documents import (
    PAIR_COLUMNS,
    PLACES_FILE,
    ROWS_COLUMN,
    SEQUENCE_COLUMNS,
    TRUNCATED_COLUMN,
    Array,
)
from apo_soup.data.encoded import KeptRows
from apo_soup.data.options import Options
from apo_soup.data.packing import DocumentSlice, packed_sequences
from apo_soup.data.trained_ranges import range_array, range_list, ranges_within, trained_count
from apo_soup.data.writer import write_split
from apo_soup.errors import UserError

FILE_NAME = "documents.bin"


class KeptDocuments:
    """The documents of kept rows, in a file in `folder` until it is known which sequence they go to; and where the rows
    are, in a file that stays.
    """

    def __init__(self, folder: Path, options: Options):
        self.folder, self.options = folder, options
        self.file = DocumentFile(folder / FILE_NAME, len(PAIR_COLUMNS) if options.pairs else 2)
        self.places = (folder / PLACES_FILE).open("w", encoding="utf-8")
        # For each kept row: its first document in the file, how many it is in, how often it is taken, and whether
        # something of it was cut off.
        self.first, self.pieces, self.times, self.cut = array("q"), array("i"), array("i"), array("b")

    def append(self, kept: KeptRows) -> None:
        """Keep the rows of a batch."""
        first = self.file.extend(kept.lengths, kept.tokens)
        self.first.frombytes((first + kept.first.astype(np.int64)).tobytes())
        self.pieces.frombytes(kept.pieces.astype(np.intc).tobytes())
        self.times.frombytes(kept.times.astype(np.intc).tobytes())
        self.places.writelines(f"{json.dumps(place, ensure_ascii=False)}\n" for place in kept.places)
        self.cut.frombytes((kept.count("lost") > 0).astype(np.int8).tobytes())

    def leave_out(self, row: int) -> None:
        """Take the row of this number, counted as they were kept, not at all."""
        self.times[row] = 0

    def close(self) -> None:
        """Remove the file of documents, and close that of places."""
        self.places.close()
        self.file.close()
        (self.folder / FILE_NAME).unlink()

    @property
    def rows(self) -> list[int]:
        """The numbers of the rows that are taken."""
        return [row for row, times in enumerate(self.times) if times]

    def write_splits(
        self, train: list[int], test: list[int], seed: int, where: str
    ) -> tuple[list[str], dict[str, Any]]:
        """Pack the rows of each split and write it.

        Returns:
            The names of the splits, and what packing made of the training split.

        Raises:
            UserError: no sequence of a split has a trained token.
        """
        self.file.flush()
        splits = {"train": with_copies(train, self.times, seed)} | ({"test": test} if test else {})
        packed: dict[str, Any] = {}
        for name, rows in splits.items():
            if self.options.pairs:
                pairs = ((*self.file.read(self.first[r]), np.array([r], np.int32), bool(self.cut[r])) for r in rows)
                write_split(self.folder / name, (*PAIR_COLUMNS, ROWS_COLUMN), pairs, flags=[TRUNCATED_COLUMN])
                continue
            documents = [(self.first[r] + k, r) for r in rows for k in range(self.pieces[r])]
            lengths = [self.file.lengths[2 * d] for d, _ in documents]
            sequences = packed_sequences(lengths, self.options.max_length, self.options.strategy)
            counts = PackedCounts()
            built = (self._sequence(slices, documents) for slices in sequences)
            if not write_split(self.folder / name, (*SEQUENCE_COLUMNS, ROWS_COLUMN), counts.trained_only(built)):
                raise UserError(
                    f"{where}: expected trained tokens in the {name} split, got sequences without one; take a larger "
                    "max_length"
                )
            told = {"rows": len(rows)} | counts.as_dict(self.options.max_length)
            packed |= told if name == "train" else {"held_out": vars(counts)}
        return list(splits), packed

    def _sequence(self, slices: list[DocumentSlice], documents: list[tuple[int, int]]) -> tuple[Array, ...]:
        """Ids `[S]`, trained ranges `[2k]`, document lengths and kept rows of a packed sequence.

        Args:
            documents: the number of each, and that of its kept row.
        """
        numbers = [number for number, _, _ in slices]
        whole, sizes = self.file.read_many([documents[number][0] for number in numbers])
        starts, ends = np.array([(start, end) for _, start, end in slices], dtype=np.int32).T
        rows = np.array([documents[number][1] for number in numbers], dtype=np.int32)
        lengths = ends - starts
        if not np.array_equal(lengths, sizes[:, 0]):
            return *self._cut(slices, documents), lengths, rows
        is_id = np.repeat(np.tile((True, False), len(slices)), sizes.ravel())
        places = np.cumsum(lengths, dtype=np.int32) - lengths
        return whole[is_id], whole[~is_id] + np.repeat(places, sizes[:, 1]), lengths, rows

    def _cut(self, slices: list[DocumentSlice], documents: list[tuple[int, int]]) -> tuple[Array, Array]:
        """Ids `[S]` and trained ranges `[2k]` of a sequence that holds parts of documents."""
        ids, ranges, place = [], [], 0
        for number, start, end in slices:
            document_ids, document_ranges = self.file.read(documents[number][0])
            if end - start < len(document_ids):
                document_ids = document_ids[start:end]
                document_ranges = range_array(ranges_within(range_list(document_ranges), start, end))
            ids.append(document_ids)
            ranges.append(document_ranges + place)
            place += end - start
        return np.concatenate(ids), np.concatenate(ranges)


@dataclass
class PackedCounts:
    """Counts packed sequences on their way to disk, and keeps back those without a single trained token.

    Wrapped packing cuts long prompts into such sequences, and the mean loss over none of a batch's tokens is no number.
    """

    sequences: int = 0
    tokens: int = 0
    trained: int = 0
    untrained: int = 0

    def trained_only(self, sequences: Iterable[tuple[Array, ...]]) -> Iterator[tuple[Array, ...]]:
        """The sequences, which begin with ids `[S]` and trained ranges `[2k]`, that have a trained token."""
        for ids, ranges, *more in sequences:
            trained = trained_count(ranges)
            if not trained:
                self.untrained += len(ids)
                continue
            self.sequences += 1
            self.tokens += len(ids)
            self.trained += trained
            yield ids, ranges, *more

    def as_dict(self, capacity: int) -> dict[str, Any]:
        """What packing made; `untrained` are the tokens of the sequences that were kept back."""
        return {**vars(self), "filled": round(self.tokens / (self.sequences * capacity), 4)}


def with_copies(rows: list[int], times: "array[int]", seed: int) -> list[int]:
    """`rows` with those that are taken more than once repeated, and then shuffled anew; held-out rows never are."""
    copies = [row for row in rows for _ in range(times[row] - 1)]
    if not copies:
        return rows
    order = rows + copies
    random.Random(f"{seed} copies").shuffle(order)
    return order
