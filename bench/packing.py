"""Packing a million documents by best-fit decreasing, side by side with TRL's, in one run.

    python -m bench.packing [--count 1000000] [--capacity 32768]

Both pack the same lengths into rows of the same capacity. TRL packs the tokens themselves, ours plans from lengths and
gathers while it writes (that part is in bench/prepare.py), so TRL is given documents of one byte a token.
"""

import argparse
import time

import numpy as np
import pyarrow as pa

from bench.figures import command, save


def main() -> None:
    """Time both and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--capacity", type=int, default=32_768)
    parser.add_argument("--output", default="bench/results/packing.json")
    options = parser.parse_args()
    lengths = np.random.default_rng(0).exponential(400, options.count).astype(int).clip(8, options.capacity)
    figures = {"ours": ours(lengths, options.capacity), "trl": trl(lengths, options.capacity)}
    for name, found in figures.items():
        print(f"{name:5} {found['seconds']:8.2f} s  {found['sequences']:,} rows  {found['filled']:.4%} filled")
    save(options.output, {"command": command(options, "packing"), "documents": options.count, "figures": figures})


def ours(lengths: np.ndarray, capacity: int) -> dict:
    """The plan: which document goes to which row."""
    from apo_soup.data.packing import best_fit_decreasing

    listed = lengths.tolist()
    started = time.perf_counter()
    bins = best_fit_decreasing(listed, capacity)
    return figure(time.perf_counter() - started, lengths, len(bins), capacity)


def trl(lengths: np.ndarray, capacity: int) -> dict:
    """TRL's `pack_dataset` on documents of those lengths."""
    from datasets import Dataset
    from trl import pack_dataset

    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(np.zeros(offsets[-1], dtype=np.int8)))
    table = Dataset(pa.table({"input_ids": tokens}))
    started = time.perf_counter()
    packed = pack_dataset(table, capacity, strategy="bfd", map_kwargs={"batch_size": len(table)})
    return figure(time.perf_counter() - started, lengths, len(packed), capacity)


def figure(seconds: float, lengths: np.ndarray, rows: int, capacity: int) -> dict:
    return {"seconds": round(seconds, 2), "sequences": rows, "filled": round(int(lengths.sum()) / (rows * capacity), 6)}


if __name__ == "__main__":
    main()
