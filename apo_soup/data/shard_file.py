"""A shard on disk: encoded batches one behind the other, each as a header in JSON and the bytes of its arrays.

A frame is eight bytes that say how long the header is, little-endian; the header; the arrays. Behind the last one stand
eight zero bytes, for a disk may lose the end of a file. Nothing of it is executed when it is read.
"""

import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from apo_soup.data.documents import Array, Refused
from apo_soup.data.duplicates import PERMUTATIONS, Fingerprint, NearFingerprint
from apo_soup.data.encoded import EncodedBatch, KeptRows, RefusedRow
from apo_soup.errors import UserError

FRAME_LENGTH = 8
END_OF_SHARD = bytes(FRAME_LENGTH)
ARRAYS = [field.name for field in fields(KeptRows) if field.type is Array]


def write_shard(file: Path, batches: Iterable[EncodedBatch]) -> tuple[int, int]:
    """Write batches; returns the numbers of rows read and of tokens kept."""
    rows = tokens = 0
    with file.open("wb") as opened:
        for batch in batches:
            _write_frame(opened, batch)
            rows += batch.read
            tokens += int(batch.kept.count("tokens").sum())
        opened.write(END_OF_SHARD)
    return rows, tokens


def read_shard(file: Path) -> Iterator[EncodedBatch]:
    """The batches of a shard, in the order they were written.

    Raises:
        UserError: the file is not whole.
    """
    with file.open("rb") as opened:
        while True:
            try:
                length = _exactly(opened, FRAME_LENGTH)
                if length == END_OF_SHARD:
                    return
                header = json.loads(_exactly(opened, int.from_bytes(length, "little")))
                arrays = {
                    name: np.frombuffer(_exactly(opened, size), dtype=dtype).reshape(shape)
                    for name, (dtype, shape, size) in header["arrays"].items()
                }
                batch = _batch(header["rows"], arrays)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{file}: expected a whole shard of prepared rows, got a damaged file ({error}); delete it and "
                    "prepare that shard again"
                ) from error
            yield batch


def _exactly(opened: BinaryIO, size: int) -> bytes:
    missing = opened.tell() + size - os.fstat(opened.fileno()).st_size
    if missing > 0:
        raise ValueError(f"{missing} bytes are missing")
    return opened.read(size)


def _write_frame(opened: BinaryIO, batch: EncodedBatch) -> None:
    kept = batch.kept
    arrays = {name: np.ascontiguousarray(getattr(kept, name)) for name in ARRAYS} | _marks(kept.fingerprints)
    rows = {
        "source": batch.source,
        "read": batch.read,
        "not_drawn": batch.not_drawn,
        "nulls": batch.nulls,
        "missing": None if batch.missing is None else sorted(batch.missing),
        "refused": [[r.number, r.place, r.refused.kind, r.refused.reason, r.refused.lost] for r in batch.refused],
        "arguments": sorted(batch.arguments),
        "unread": [[*key, count] for key, count in batch.unread.items()],
        "remarks": [[*key, count] for key, count in batch.remarks.items()],
        "modes": kept.modes,
        "places": kept.places,
    }
    described = {name: [array.dtype.str, array.shape, array.nbytes] for name, array in arrays.items()}
    header = json.dumps({"rows": rows, "arrays": described}).encode()
    opened.write(len(header).to_bytes(FRAME_LENGTH, "little"))
    opened.write(header)
    for array in arrays.values():
        opened.write(array.data)


def _batch(rows: dict[str, Any], arrays: dict[str, Array]) -> EncodedBatch:
    kept = KeptRows(
        **{name: arrays[name] for name in ARRAYS},
        modes=rows["modes"],
        places=rows["places"],
        fingerprints=_fingerprints(arrays),
    )
    return EncodedBatch(
        source=rows["source"],
        read=rows["read"],
        not_drawn=rows["not_drawn"],
        nulls=rows["nulls"],
        missing=None if rows["missing"] is None else set(rows["missing"]),
        refused=[
            RefusedRow(number, place, Refused(kind, reason, lost))
            for number, place, kind, reason, lost in rows["refused"]
        ],
        kept=kept,
        arguments=set(rows["arguments"]),
        unread=Counter({(source, name): count for source, name, count in rows["unread"]}),
        remarks=Counter({(source, remark): count for source, remark, count in rows["remarks"]}),
    )


def _marks(fingerprints: list[Fingerprint]) -> dict[str, Array]:
    """Fingerprints as arrays: digests `[N, 16]`; of near ones the numbers of the rows, their MinHash values `[M, 128]`,
    their settings and how many shingles each has, `[M]`, and all of these.
    """
    near = [(number, mark.near) for number, mark in enumerate(fingerprints) if mark.near is not None]
    digests = np.frombuffer(b"".join(mark.digest for mark in fingerprints), dtype=np.uint8).reshape(-1, 16)
    minhash = np.array([mark.minhash for _, mark in near]) if near else np.zeros((0, PERMUTATIONS), np.uint32)
    shingles = np.concatenate([mark.shingles for _, mark in near]) if near else np.zeros(0, np.int32)
    return {
        "digests": digests,
        "near_rows": np.array([number for number, _ in near], dtype=np.int32),
        "minhash": minhash,
        "settings": np.array([mark.setting for _, mark in near], dtype=np.int64),
        "shingle_counts": np.array([len(mark.shingles) for _, mark in near], dtype=np.int32),
        "shingles": shingles,
    }


def _fingerprints(arrays: dict[str, Array]) -> list[Fingerprint]:
    ends = np.cumsum(arrays["shingle_counts"])
    shingles = np.split(arrays["shingles"], ends[:-1]) if len(ends) else []
    columns = (arrays["near_rows"].tolist(), shingles, arrays["minhash"], arrays["settings"].tolist())
    near = {
        number: NearFingerprint(of_row, minhash, setting)
        for number, of_row, minhash, setting in zip(*columns, strict=True)
    }
    return [Fingerprint(digest.tobytes(), near.get(number)) for number, digest in enumerate(arrays["digests"])]
