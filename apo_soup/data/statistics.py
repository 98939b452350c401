"""What became of every row: counts by source and mode, and the lists of rows that were refused."""

import json
from array import array
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from apo_soup.data.documents import Array
from apo_soup.data.encoded import KeptRows, RefusedRow
from apo_soup.data.options import Options
from apo_soup.errors import UserError

LENGTH_COLUMNS = ("mean_length", "p95_length")
DROP_REASONS = ("not_drawn", "long", "duplicate", "contaminated")
# What a person can do about a source that gives no row, by what became of most of its rows.
REMEDIES = {
    "rejected": "correct them",
    "not_drawn": "raise weight or token_share",
    "long": "raise max_length",
    "contaminated": "take other rows, or leave decontaminate out",
}


@dataclass
class Counts:
    """One source's rows in one mode; what was refused has no mode. Tokens are those of the kept rows, counted once.

    `copies` are further copies of kept rows that a weight above 1 asks for, `trained` tokens that carry loss,
    `trained_with_copies` the same in every copy, `reasoning` those of `trained` inside think blocks, `long` rows of
    which `max_length` leaves nothing to train on or that `overflow: drop` leaves out, `lost` tokens that overflow cut
    off or dropped, `cut` kept rows that lost some. `samples` are what kept rows were unrolled into, `shortened` kept
    rows whose template leaves out reasoning of earlier answers, and `shortened_turns` these answers.
    """

    source: str
    mode: str
    read: int = 0
    kept: int = 0
    copies: int = 0
    rejected: int = 0
    not_drawn: int = 0
    long: int = 0
    duplicate: int = 0
    contaminated: int = 0
    tokens: int = 0
    trained: int = 0
    trained_with_copies: int = 0
    reasoning: int = 0
    lost: int = 0
    cut: int = 0
    samples: int = 0
    shortened: int = 0
    shortened_turns: int = 0
    lengths: "array[int]" = field(default_factory=lambda: array("i"))

    @property
    def dropped(self) -> int:
        """Rows left out as the recipe asks, for whatever reason."""
        return sum(getattr(self, name) for name in DROP_REASONS)

    def as_row(self) -> dict[str, Any]:
        """The counts by name, with sums and lengths in tokens."""
        row = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "lengths"}
        lengths = sorted(self.lengths)
        row["dropped"] = self.dropped
        row["mean_length"] = round(sum(lengths) / len(lengths), 1) if lengths else 0
        row["p95_length"] = lengths[int(0.95 * (len(lengths) - 1))] if lengths else 0
        return row


class Statistics:
    """Counts every row of a preparation once, and writes down those that are refused, with the reason.

    Rejected rows (at fault) go to `rejects.jsonl`, dropped ones (too long, duplicate, contaminated) to
    `dropped.jsonl`; both lie in `folder`.
    """

    def __init__(self, folder: Path, options: Options):
        self.length_limit = {"max_length": options.max_length, "overflow": options.overflow}
        self.counts: dict[tuple[str, str], Counts] = {}
        self.seen: Counter[str] = Counter()
        self.unread: Counter[tuple[str, str]] = Counter()
        self.remarks: Counter[tuple[str, str]] = Counter()
        self.first_reject = ""
        self._first_of_source: dict[str, str] = {}
        self._files = {kind: folder / f"{kind}.jsonl" for kind in ("rejects", "dropped")}
        self._lists = {
            kind: path.open("w", encoding="utf-8", errors="backslashreplace") for kind, path in self._files.items()
        }

    def of(self, source: str, mode: str = "-") -> Counts:
        """The counts of a source in a mode, begun at 0."""
        return self.counts.setdefault((source, mode), Counts(source, mode))

    def sum(self, name: str) -> int:
        """A count over all sources and modes."""
        return sum(getattr(c, name) for c in self.counts.values())

    def keep(self, source: str, kept: KeptRows, times: Array) -> None:
        """Count rows of a source that are trained on, each taken so many `times`, `[N]`."""
        for number, mode in enumerate(kept.modes):
            of_mode = kept.mode == number
            rows, taken = kept.counts[of_mode].astype(np.int64), times[of_mode]
            tokens, trained, reasoning, lost, samples, shortened = rows.T
            counts = self.of(source, mode)
            counts.read += len(rows)
            counts.kept += len(rows)
            counts.copies += int((taken - 1).sum())
            counts.trained_with_copies += int((taken * trained).sum())
            counts.lengths.frombytes(tokens.astype(np.intc).tobytes())
            counts.tokens += int(tokens.sum())
            counts.trained += int(trained.sum())
            counts.reasoning += int(reasoning.sum())
            counts.lost += int(lost.sum())
            counts.cut += int((lost > 0).sum())
            counts.samples += int(samples.sum())
            counts.shortened += int((shortened > 0).sum())
            counts.shortened_turns += int(shortened.sum())

    def refuse(self, source: str, row: RefusedRow) -> None:
        """Count a row of a source that is not trained on, and write it down."""
        counts, refused = self.of(source), row.refused
        counts.read += 1
        counts.lost += refused.lost
        setattr(counts, refused.kind, getattr(counts, refused.kind) + 1)
        entry = {"source": source, "row": row.place, "reason": refused.reason}
        told = f"{row.place}: {refused.reason}"
        self._first_of_source.setdefault(source, told)
        if refused.kind == "rejected":
            self.first_reject = self.first_reject or told
            self._write("rejects", entry)
        else:
            self._write("dropped", {**entry, "kind": refused.kind})

    def leave_out(self, source: str, rows: int) -> None:
        """Count rows that the source's weight or its share of the tokens leaves out."""
        counts = self.of(source)
        counts.read += rows
        counts.not_drawn += rows

    def _write(self, kind: str, entry: dict[str, str]) -> None:
        self._lists[kind].write(json.dumps(entry, ensure_ascii=False) + "\n")

    def close(self) -> dict[str, Path]:
        """Close the lists; those with rows in them, by name."""
        for file in self._lists.values():
            file.close()
        for path in self._files.values():
            if not path.stat().st_size:
                path.unlink()
        return {kind: path for kind, path in self._files.items() if path.exists()}

    def check(self, share: float, where: str, by_tokens: bool) -> None:
        """Every row read is kept, rejected or dropped, and not too many are rejected.

        Args:
            by_tokens: whether rows are drawn by tokens, as for `check_share`.

        Raises:
            UserError: more than `share` of the encoded rows are rejected, or no row is left.
            AssertionError: a row was lost, which is our own fault.
        """
        for name, read in self.seen.items():
            counts = [c for (source, _), c in self.counts.items() if source == name]
            accounted = sum(c.kept + c.rejected + c.dropped for c in counts)
            if accounted != read:
                raise AssertionError(f"rows of {name} lost in preparation: {read} read, {accounted} accounted for")
        check_share(self.total(), share, where, self.first_reject, by_tokens)
        for source in dict.fromkeys(name for name, _ in self.counts):
            self._check_source(source, where)

    def _check_source(self, source: str, where: str) -> None:
        """A source gives at least one row, or all it had were duplicates of another's."""
        of_source = [c for (name, _), c in self.counts.items() if name == source]
        sums = {name: sum(getattr(c, name) for c in of_source) for name in ("read", "kept", "rejected", *DROP_REASONS)}
        if sums["kept"] or sums["duplicate"]:
            return
        if not sums["read"]:
            raise UserError(f"{where}: source {source}: expected at least one row, got none; write its rows first")
        names = {"long": f"too long for {told_limit(self.length_limit)}", "not_drawn": "not drawn"}
        lost = {name: sums[name] for name in REMEDIES if sums[name]}
        what = ", ".join(f"{count} {names.get(name, name)}" for name, count in lost.items())
        first = self._first_of_source.get(source)
        raise UserError(
            f"{where}: source {source}: expected a row to train on, got none: of {sums['read']} rows {what}; "
            f"{REMEDIES[max(lost, key=lost.__getitem__)]}" + (f"; the first is {first}" if first else "")
        )

    def rows(self) -> list[dict[str, Any]]:
        """A mapping for each source and mode, in the order of the names."""
        return [self.counts[key].as_row() for key in sorted(self.counts)]

    def shares(self, asked: dict[str, float]) -> list[dict[str, Any]]:
        """A mapping for each source, in the order of the mixture: its rows and trained tokens, copies among them, their
        shares of the whole, and the share of the tokens that the recipe asks for, by source in `asked`, where it does.
        """
        shares: dict[str, dict[str, Any]] = {}
        for counts in self.counts.values():
            of_source = shares.setdefault(counts.source, {"source": counts.source, "rows": 0, "trained": 0})
            of_source["rows"] += counts.kept + counts.copies
            of_source["trained"] += counts.trained_with_copies
        for what in ("rows", "trained"):
            total = sum(share[what] for share in shares.values())
            for share in shares.values():
                share[f"{what}_share"] = round(share[what] / total, 6) if total else 0.0
        return [share | ({"token_share": asked[name]} if name in asked else {}) for name, share in shares.items()]

    def unread_fields(self) -> list[dict[str, Any]]:
        """A mapping for each field that nothing reads: source, field, and in how many rows it stands."""
        return [{"source": s, "field": f, "rows": n} for (s, f), n in sorted(self.unread.items())]

    def remark_rows(self) -> list[dict[str, Any]]:
        """A mapping for each thing that is to be said of rows: source, the remark, and of how many rows it holds."""
        return [{"source": s, "remark": r, "rows": n} for (s, r), n in sorted(self.remarks.items())]

    def total(self) -> dict[str, Any]:
        """The sums over all sources, and the share of tokens that think rows hold."""
        rows = self.rows()
        names = [n for n, v in rows[0].items() if isinstance(v, int) and n not in LENGTH_COLUMNS] if rows else []
        total = {name: sum(row[name] for row in rows) for name in names}
        total["mean_length"] = round(total["tokens"] / total["kept"], 1) if total.get("kept") else 0
        think = sum(row["tokens"] for row in rows if row["mode"] == "think")
        return total | {"think_share": round(think / total["tokens"], 4) if total.get("tokens") else 0.0}


def check_unread(unread: list[dict[str, Any]], refuse: bool, where: str) -> None:
    """Raise UserError for the first field that nothing reads, where the recipe refuses such fields."""
    if refuse and unread:
        first = unread[0]
        raise UserError(
            f"{where}: unknown_fields: expected fields that are read, got {first['field']} in {of_rows(first)}; "
            "drop the column, map it with rename, or write unknown_fields: count"
        )


def check_share(total: dict[str, Any], share: float, where: str, first: str, by_tokens: bool) -> None:
    """Raise UserError, naming the first, where more than `share` of the encoded rows are rejected.

    Args:
        by_tokens: whether rows are drawn by tokens, which is once all are encoded, so that those not drawn count too.
    """
    rejected, encoded = total.get("rejected", 0), total.get("read", 0)
    if not by_tokens:
        encoded -= total.get("not_drawn", 0)
    if rejected > share * encoded:
        raise UserError(
            f"{where}: max_reject_share: expected at most {share} of the rows rejected, got {rejected} of {encoded}; "
            f"correct them or raise the share; the first is {first}"
        )


def told_limit(limit: dict[str, Any]) -> str:
    """The length that rows are held to, and the key that says what becomes of longer ones."""
    return f"max_length {limit['max_length']:,} under overflow: {limit['overflow']}"


def of_rows(entry: dict[str, Any]) -> str:
    """In how many rows of which source an unread field stands."""
    return f"{entry['rows']:,} row{'' if entry['rows'] == 1 else 's'} of {entry['source']}"
