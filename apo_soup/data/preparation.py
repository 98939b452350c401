"""One preparation at work: every row of a mixture read, encoded, counted, packed and written into a folder."""

import gc
import shutil
import time
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from apo_soup.config.training import TrainingFile
from apo_soup.data.checks.mask_check import CHARACTERS_PER_SOURCE, ROWS_PER_SOURCE
from apo_soup.data.clean import Cleaner
from apo_soup.data.contamination import eval_prompts, eval_sources
from apo_soup.data.conversations.source_mode import sources_in_mode
from apo_soup.data.documents import Batch, Document, Refused, RowToEncode
from apo_soup.data.duplicates import Duplicates
from apo_soup.data.encode import encoded_batches, encoder_for
from apo_soup.data.held_out import check_split, held_out_counts, split_off
from apo_soup.data.options import Options
from apo_soup.data.prompt_marks import PromptMarks
from apo_soup.data.sources.draw import weighted_draw
from apo_soup.data.sources.mixture import mixture_sources
from apo_soup.data.sources.read import count_rows
from apo_soup.data.sources.source import Source
from apo_soup.data.splits import KeptDocuments
from apo_soup.data.statistics import Statistics, check_unread
from apo_soup.data.token_shares import EncodedRows, drawn_by_tokens
from apo_soup.errors import UserError
from apo_soup.models.new_tokens import unknown_control_words
from apo_soup.progress import Progress, is_main
from apo_soup.runs.manifest import peak_memory_mb, write_json

ROWS_A_BATCH = 1024
BATCHES_A_COLLECTION = 64
CHARACTERS_A_BATCH = 1_000_000


class Preparation:
    """One preparation at work in its own folder."""

    def __init__(
        self, recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, folder: Path, say: Callable[[str], None]
    ):
        self.recipe, self.folder, self.say = recipe, folder, say
        self.mixture = recipe.dataset_mixture
        self.options = Options.of(recipe)
        self.test_size = self.mixture.test_split_size
        duplicates = self.mixture.deduplicate
        evals = eval_prompts(eval_sources(recipe), self.mixture.decontaminate_ngram)
        unrolled = self.options.train_on == "unroll"
        cleaner = Cleaner(duplicates, evals, self.test_size is not None, unrolled)
        self.encoder = encoder_for(tokenizer, self.options, cleaner)
        threshold = self.mixture.deduplicate_threshold
        self.duplicates = Duplicates(duplicates == "near", threshold, folder) if duplicates else None
        self.statistics = Statistics(folder, self.options)
        self.kept = KeptDocuments(folder, self.options)
        self.prompts = PromptMarks(folder) if self.test_size is not None else None
        # With shares of the tokens, rows are counted when all are encoded and it is known which are taken.
        self.token_shares: dict[str, float] = {}
        self.encoded = EncodedRows()
        self.progress = Progress("prepare", "rows", self._row_count(), quiet=not is_main())

    def run(self, folder: Path) -> None:
        """Write splits, counts and lists of refused rows. A list of rejects stays beside `folder` if this fails.

        Raises:
            UserError: too many rejected rows, a source that fails the mask check, or nothing left to train on.
        """
        started = time.monotonic()
        where = str(self.recipe.path)
        words = unknown_control_words(self.encoder.tokenizer)
        if words:
            self.say(
                f"note: the chat template writes {', '.join(words)}, which the tokenizer cuts into pieces; "
                "add_special_tokens in a mid or sft file makes a token of each"
            )
        arguments = self._encode_all(folder, where)
        unread = self.encoder.renderer.unread(arguments)
        if unread:
            self.say(f"note: the chat template does not read the template arguments {', '.join(sorted(unread))}")
        if self.duplicates:
            self.duplicates.close()
        train, test, held_out = self._split(where)
        splits, packed = self.kept.write_splits(train, test, self.mixture.seed, where)
        self.kept.close()
        write_json(self.folder / "dataset_dict.json", {"splits": splits})
        seconds = time.monotonic() - started
        stats = {
            "seconds": round(seconds, 2),
            "tokens_per_second": round(self.statistics.sum("tokens") / seconds),
            "peak_memory_mb": peak_memory_mb(),
            "sources": self.statistics.rows(),
            "total": self.statistics.total(),
            "shares": self.statistics.shares(self.token_shares),
            "length": self.statistics.length_limit,
            "unread_fields": self.statistics.unread_fields(),
            "remarks": self.statistics.remark_rows(),
            "held_out": held_out,
            "packed": packed,
        }
        write_json(self.folder / "stats.json", stats)

    def _encode_all(self, folder: Path, where: str) -> set[str]:
        """Read and encode every row; returns the template arguments that the rows used."""
        beside = folder.parent / f"{folder.name.rpartition('-')[0]}-rejects.jsonl"
        beside.unlink(missing_ok=True)
        arguments: set[str] = set()
        # The collector would walk the libraries' many objects again and again, and then every row's. What is left in
        # cycles here is little, and is looked for now and then.
        gc.freeze()
        gc.disable()
        try:
            processes = self.recipe.dataset_num_proc or 1
            for number, batch in enumerate(encoded_batches(self._batches(), self.encoder, processes), 1):
                arguments |= batch.arguments
                self.statistics.unread += batch.unread
                self.statistics.remarks += batch.remarks
                self._collect(batch)
                if number % BATCHES_A_COLLECTION == 0:
                    gc.collect()
            self._draw_by_tokens(where)
            check_unread(self.statistics.unread_fields(), self.recipe.unknown_fields == "refuse", where)
        finally:
            gc.enable()
            gc.unfreeze()
            self.progress.end()
            rejects = self.statistics.close().get("rejects")
            if rejects:
                shutil.copy(rejects, beside)
                self.say(f"{self.statistics.sum('rejected')} rejected rows, with reasons, in {beside}")
        return arguments

    def _split(self, where: str) -> tuple[list[int], list[int], dict[str, Any] | None]:
        """The rows to train on and those held out, and what is to be told of these; no prompt is on both sides.

        Raises:
            UserError: nothing would be left to train on.
        """
        rows, seed = self.kept.rows, self.mixture.seed
        if self.test_size is None or self.prompts is None:
            return *split_off(rows, None, seed), None
        train, test = split_off(rows, self.test_size, seed, self.prompts.groups)
        check_split(train, test, self.test_size, self.recipe.place("dataset_mixture.test_split_size"))
        counts = held_out_counts(self.prompts, train, test, self.test_size)
        self.prompts.close()
        return train, test, counts

    def _row_count(self) -> int | None:
        """How many rows there are to read, where every source can say it quickly."""
        total = 0
        for entry in self.mixture.datasets:
            count = count_rows(Source.from_entry(entry), self.recipe.place("dataset_mixture.datasets"))
            if count is None:
                return None
            total += count
        return total

    def _batches(self) -> Iterator[list[RowToEncode]]:
        """The drawn rows in batches of bounded size, source by source."""
        batch: list[RowToEncode] = []
        size = 0
        for row in self._drawn_rows():
            batch.append(row)
            size += row.row.size
            if len(batch) == ROWS_A_BATCH or size > CHARACTERS_A_BATCH:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _drawn_rows(self) -> Iterator[RowToEncode]:
        entries = mixture_sources(self.recipe, say=self.say)
        if self.encoder.renderer.knows_modes:
            entries = sources_in_mode(entries, self.options.template_kwargs, self.options.pairs, self.say)
        for entry in entries:
            source = entry.source
            checked = characters = 0
            self.statistics.of(source.name)
            share = self.mixture.datasets[entry.number].token_share
            if share is not None:
                self.token_shares[source.name] = share
            for row, times in weighted_draw(entry.rows, source.weight, self.mixture.seed, entry.number):
                self.statistics.seen[source.name] += 1
                if times == 0:
                    self.statistics.skip(source.name)
                    continue
                check = checked < ROWS_PER_SOURCE and characters < CHARACTERS_PER_SOURCE
                yield RowToEncode(source, row, entry.format, times, check)
                checked += 1
                characters += row.size

    def _collect(self, batch: Batch) -> None:
        """Count what became of a batch's rows, and keep the documents of those that are trained on."""
        for row, result in zip(batch.rows, batch.results, strict=True):
            if isinstance(result, Document) and self.duplicates and result.fingerprint:
                reason = self.duplicates.duplicate_of(result.fingerprint, row.row.place)
                result = Refused("duplicate", reason) if reason else result
            if isinstance(result, Refused):
                self.statistics.refuse(row, result)
                continue
            self.kept.append(result, row.times)
            if self.prompts and result.prompt:
                self.prompts.append(result.prompt)
            if row.source.name in self.token_shares:
                self.encoded.append(row.source.name, result)
            else:
                self.statistics.keep(row.source.name, row.times, result)
        tokens = self.statistics.sum("tokens") + self.encoded.tokens
        self.progress.at(self.statistics.sum("read") + len(self.encoded), f"{tokens:,} tokens")

    def _draw_by_tokens(self, where: str) -> None:
        """Take what the shares of the tokens ask for, where they do, and check that every row is accounted for.

        Raises:
            UserError: as `Statistics.check`, or a source has no rows but duplicates of another's.
        """
        shares, encoded = self.token_shares, self.encoded
        empty = [source for source in shares if not encoded.trained(source)[0]]
        drawn: Collection[int] = range(len(encoded))
        if shares and not empty:
            drawn = drawn_by_tokens(encoded, shares, self.mixture.seed)
        for row, (source, document) in enumerate(encoded):
            if row in drawn:
                self.statistics.keep(source, 1, document)
            else:
                self.statistics.skip(source)
                self.kept.leave_out(row)
        self.statistics.check(self.recipe.max_reject_share, where, bool(shares))
        if empty:
            raise UserError(
                f"{where}: source {empty[0]}: expected rows for token_share {shares[empty[0]]:g}, got none but "
                "duplicates of other sources' rows; leave the source out"
            )
