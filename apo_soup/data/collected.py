"""What became of all rows of a mixture, batch by batch in their order: counted, those that are trained on kept."""

import shutil
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from apo_soup.config.training import TrainingFile
from apo_soup.data.documents import Refused
from apo_soup.data.duplicates import Duplicates
from apo_soup.data.encoded import EncodedBatch, KeptRows, RefusedRow
from apo_soup.data.held_out import check_split, held_out_counts, split_off
from apo_soup.data.options import Options
from apo_soup.data.prompt_marks import PromptMarks
from apo_soup.data.sources.mixture import named_sources, nulls_note
from apo_soup.data.sources.read import SourceColumns
from apo_soup.data.splits import KeptDocuments
from apo_soup.data.statistics import Statistics, check_unread
from apo_soup.data.token_shares import UndrawnRows, drawn_by_tokens
from apo_soup.errors import UserError
from apo_soup.progress import warning
from apo_soup.runs.manifest import write_json


class CollectedRows:
    """The rows of a mixture in a folder that they are written to once all are there.

    Duplicates are found here, where the rows of all processes meet in their order, and rows are drawn here where a
    source has a share of the tokens.
    """

    def __init__(self, recipe: TrainingFile, folder: Path, say: Callable[[str], None]):
        self.recipe, self.folder, self.say = recipe, folder, say
        self.mixture, self.options = recipe.dataset_mixture, Options.of(recipe)
        self.sources = {source.name: source for source in named_sources(recipe)}
        names = zip(self.sources, self.mixture.datasets, strict=True)
        self.token_shares = {name: keys.token_share for name, keys in names if keys.token_share is not None}
        kind = self.mixture.deduplicate
        threshold = self.mixture.deduplicate_threshold
        self.duplicates = Duplicates(kind == "near", threshold, folder) if kind else None
        self.statistics = Statistics(folder, self.options)
        for name in self.sources:
            self.statistics.of(name)
        self.kept = KeptDocuments(folder, self.options)
        self.prompts = PromptMarks(folder) if self.mixture.test_split_size is not None else None
        self.undrawn = UndrawnRows()
        self.arguments: set[str] = set()
        self.nulls: Counter[str] = Counter()
        self.missing: dict[str, set[str]] = {}

    @property
    def tokens(self) -> int:
        """The tokens of the rows that are kept so far."""
        return self.statistics.sum("tokens") + self.undrawn.tokens

    @property
    def rows(self) -> int:
        """The rows that are collected so far, whatever became of them."""
        return self.statistics.sum("read") + self.undrawn.rows

    def add(self, batch: EncodedBatch) -> None:
        """Count what became of a batch's rows, and keep the documents of those that are trained on."""
        statistics, source = self.statistics, batch.source
        statistics.seen[source] += batch.read
        statistics.unread += batch.unread
        statistics.remarks += batch.remarks
        self.arguments |= batch.arguments
        self.nulls[source] += batch.nulls
        if batch.missing is not None:
            self.missing[source] = self.missing.get(source, batch.missing) & batch.missing
        if batch.not_drawn:
            statistics.leave_out(source, batch.not_drawn)
        twice = self._duplicates(batch.kept)
        for row in sorted([*batch.refused, *twice.values()], key=lambda row: row.number):
            statistics.refuse(source, row)
        kept = batch.kept.without(set(twice))
        if not len(kept):
            return
        self.kept.append(kept)
        if self.prompts:
            self.prompts.append(kept.groups, kept.sketches)
        if source in self.token_shares:
            self.undrawn.append(source, kept)
        else:
            statistics.keep(source, kept, kept.times)

    def _duplicates(self, kept: KeptRows) -> dict[int, RefusedRow]:
        """The rows that are duplicates of earlier ones, by their places among the kept ones."""
        twice: dict[int, RefusedRow] = {}
        if self.duplicates is None:
            return twice
        rows = zip(kept.numbers.tolist(), kept.places, kept.fingerprints, strict=True)
        for place, (number, row, fingerprint) in enumerate(rows):
            reason = self.duplicates.duplicate_of(fingerprint, row)
            if reason:
                twice[place] = RefusedRow(number, row, Refused("duplicate", reason))
        return twice

    def check(self, where: str) -> None:
        """Take what the shares of the tokens ask for, where they do, and check that every row is accounted for.

        Raises:
            UserError: as `Statistics.check`; a source has no rows but duplicates of another's; a column or field that
                no row has, or that nothing reads where the recipe refuses such fields.
        """
        for number, (name, source) in enumerate(self.sources.items()):
            SourceColumns(source, self.missing.get(name)).check(
                self.recipe.place(f"dataset_mixture.datasets.{number}.id")
            )
            if self.nulls[name]:
                self.say(nulls_note(self.nulls[name], name))
        self._draw_by_tokens(where)
        check_unread(self.statistics.unread_fields(), self.recipe.unknown_fields == "refuse", where)

    def _draw_by_tokens(self, where: str) -> None:
        shares = self.token_shares
        trained = [self.undrawn.trained(source) for source in shares]
        empty = [source for source, rows in zip(shares, trained, strict=True) if not rows]
        drawn: Collection[int] = range(self.undrawn.rows)
        if shares and not empty:
            drawn = drawn_by_tokens(trained, list(shares.values()), self.mixture.seed)
        start = 0
        for source, kept in self.undrawn.batches:
            left = {place for place in range(len(kept)) if start + place not in drawn}
            for place in left:
                self.kept.leave_out(start + place)
            taken = kept.without(left)
            self.statistics.leave_out(source, len(left))
            self.statistics.keep(source, taken, np.ones(len(taken), dtype=np.int64))
            start += len(kept)
        self.statistics.check(self.recipe.max_reject_share, where, bool(shares))
        if empty:
            raise UserError(
                f"{where}: source {empty[0]}: expected rows for token_share {shares[empty[0]]:g}, got none but "
                "duplicates of other sources' rows; leave the source out"
            )

    def close_lists(self, beside: Path) -> None:
        """Close the lists of refused rows; that of rejected ones is copied to `beside`, where there are any."""
        rejects = self.statistics.close().get("rejects")
        if rejects:
            shutil.copy(rejects, beside)
            self.say(warning(f"{self.statistics.sum('rejected')} rejected rows, with reasons, in {beside}"))

    def write(self, where: str) -> dict[str, Any]:
        """Write the splits and return what `stats.json` says of the rows.

        Raises:
            UserError: nothing would be left to train on.
        """
        train, test, held_out = self._split()
        splits, packed = self.kept.write_splits(train, test, self.mixture.seed, where)
        write_json(self.folder / "dataset_dict.json", {"splits": splits})
        statistics = self.statistics
        return {
            "sources": statistics.rows(),
            "total": statistics.total(),
            "shares": statistics.shares(self.token_shares),
            "length": statistics.length_limit,
            "unread_fields": statistics.unread_fields(),
            "remarks": statistics.remark_rows(),
            "held_out": held_out,
            "packed": packed,
        }

    def _split(self) -> tuple[list[int], list[int], dict[str, Any] | None]:
        """The rows to train on and those held out, and what is to be told of these; no prompt is on both sides."""
        rows, seed, size = self.kept.rows, self.mixture.seed, self.mixture.test_split_size
        if size is None or self.prompts is None:
            return *split_off(rows, None, seed), None
        train, test = split_off(rows, size, seed, self.prompts.groups)
        check_split(train, test, size, self.recipe.place("dataset_mixture.test_split_size"))
        return train, test, held_out_counts(self.prompts, train, test, size)

    def close(self) -> None:
        """Remove the files that are only needed until the splits are written."""
        for file in (self.kept, self.prompts, self.duplicates):
            if file is not None:
                file.close()
