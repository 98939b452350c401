"""One preparation at work: every row of a mixture read, encoded, counted, packed and written into a folder."""

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import chain
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from apo_soup.config.training import TrainingFile
from apo_soup.data.clean import Cleaner
from apo_soup.data.collected import CollectedRows
from apo_soup.data.contamination import eval_prompts, eval_sources
from apo_soup.data.conversations.turn_fields import TOOL_FIELDS
from apo_soup.data.encode import RowEncoder, encoded_batches, encoder_for
from apo_soup.data.encoded import EncodedBatch
from apo_soup.data.options import Options
from apo_soup.data.reading import mixture_portions
from apo_soup.data.sources.chunks import Chunk, row_count, source_chunks
from apo_soup.data.sources.mixture import named_sources
from apo_soup.data.table_readers import require_living_readers
from apo_soup.models.new_tokens import unknown_control_words
from apo_soup.progress import Progress, is_main, warning
from apo_soup.runs.manifest import peak_memory_mb, write_json


def prepare_into(
    partial: Path, folder: Path, recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, say: Callable[[str], None]
) -> None:
    """Write splits, counts and lists of refused rows into the folder `partial`. A list of rejects stays beside
    `folder`, the final one, if this fails.

    Raises:
        UserError: too many rejected rows, a source that fails the mask check, or nothing left to train on.
    """
    encoder = recipe_encoder(recipe, tokenizer)
    words = unknown_control_words(tokenizer)
    if words:
        say(
            f"note: the chat template writes {', '.join(words)}, which the tokenizer cuts into pieces; "
            "add_special_tokens in a mid or sft file makes a token of each"
        )
    chunks = recipe_chunks(recipe)
    require_living_readers(recipe, chunks)
    portions = mixture_portions(recipe, chunks, encoder.parser_of_modes, say)
    batches = encoded_batches(portions, encoder, recipe.dataset_num_proc or 1)
    collect_into(partial, folder, recipe, batches, row_count(chain.from_iterable(chunks)), encoder, say)


def recipe_chunks(recipe: TrainingFile) -> list[list[Chunk]]:
    """The chunks of each source of a mixture.

    Raises:
        UserError: a file that is not there, or that cannot be read.
    """
    sources = enumerate(named_sources(recipe))
    return [source_chunks(source, recipe.place(f"dataset_mixture.datasets.{n}.id")) for n, source in sources]


def recipe_encoder(recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase) -> RowEncoder:
    """The encoder of a recipe's rows, with what the recipe asks to know of them.

    Raises:
        UserError: prompts of evaluations cannot be read.
    """
    mixture, options = recipe.dataset_mixture, Options.of(recipe)
    evals = eval_prompts(eval_sources(recipe), mixture.decontaminate_ngram)
    unrolled = options.train_on == "unroll"
    cleaner = Cleaner(mixture.deduplicate, evals, mixture.test_split_size is not None, unrolled)
    return encoder_for(tokenizer, options, cleaner)


def collect_into(
    partial: Path,
    folder: Path,
    recipe: TrainingFile,
    batches: Iterable[EncodedBatch],
    rows: int | None,
    encoder: RowEncoder,
    say: Callable[[str], None],
) -> None:
    """Count, pack and write encoded batches, in their order; the rest as `prepare_into`.

    Args:
        rows: how many they are in all, where that is known.
    """
    started = time.monotonic()
    where = str(recipe.path)
    beside = folder.parent / f"{folder.name.rpartition('-')[0]}-rejects.jsonl"
    beside.unlink(missing_ok=True)
    progress = Progress("prepare", "rows", rows, quiet=not is_main())
    with closing(CollectedRows(recipe, partial, say)) as collected:
        try:
            for batch in batches:
                collected.add(batch)
                progress.at(collected.rows, f"{collected.tokens:,} tokens")
            collected.check(where)
        finally:
            progress.end()
            collected.close_lists(beside)
        unread = encoder.renderer.unread(collected.arguments)
        if unread:
            told = f"the chat template does not read the template arguments {', '.join(sorted(unread))}"
            say(f"note: {told}" if unread.isdisjoint(TOOL_FIELDS) else warning(f"{told}; its prompts lack these tools"))
        stats = collected.write(where)
    seconds = time.monotonic() - started
    write_json(
        partial / "stats.json",
        {
            "seconds": round(seconds, 2),
            "tokens_per_second": round(stats["total"]["tokens"] / seconds),
            "peak_memory_mb": peak_memory_mb(),
            **stats,
        },
    )
