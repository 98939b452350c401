"""The first rows of each source through the encoder that prepares them: what a preparation would refuse, before it."""

from collections.abc import Callable, Collection, Iterator
from itertools import islice

from transformers import PreTrainedTokenizerBase

from apo_soup.config.training import TrainingFile
from apo_soup.data.conversations.source_mode import sources_in_mode
from apo_soup.data.conversations.unread import judges
from apo_soup.data.documents import Refused, RowToEncode
from apo_soup.data.encode import RowEncoder, encoder_for
from apo_soup.data.options import Options
from apo_soup.data.sources.mixture import MixtureSource, mixture_sources
from apo_soup.errors import UserError

# Rows of a source that are looked at: one of them must be trained on.
ROWS_TRIED = 20


def first_rows_problems(
    recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, without: Collection[int] = ()
) -> Iterator[str]:
    """A sentence for each source of which none of the first rows would be trained on; a note on the file for each field
    that nothing reads and that says how a row is to be used, such as the label of KTO's rows.

    Args:
        tokenizer: with the template that trains.
        without: numbers of the sources that are not there yet.

    Raises:
        UserError: as a preparation does: a template that is no template, a source in two modes, a mask that is wrong.
    """
    options = Options.of(recipe)
    encoder = encoder_for(tokenizer, options)
    entries: Iterator[MixtureSource] = mixture_sources(recipe, without)
    if encoder.renderer.knows_modes:
        quiet: Callable[[str], None] = lambda _: None  # noqa: E731 - its note is the preparation's
        entries = sources_in_mode(entries, options.template_kwargs, encoder.read, quiet)
    for entry in entries:
        key = f"dataset_mixture.datasets.{entry.number}.id"
        problem, unread = _tried(entry, encoder, recipe.place(key))
        if problem:
            yield problem
        recipe.notes.extend(
            f"{recipe.place(key)}: field {name} of its rows is not used, and such a field says how a row is to be used"
            for name in unread
        )


def _tried(entry: MixtureSource, encoder: RowEncoder, where: str) -> tuple[str | None, list[str]]:
    """What is wrong with the first rows, and the judging fields of the first good one that nothing reads."""
    first, count = "", 0
    for row in islice(entry.rows, ROWS_TRIED):
        count += 1
        try:
            batch = encoder([RowToEncode(entry.source, row, entry.format, 1, checked=True)])
        except UserError as error:
            return str(error), []
        if not isinstance(batch.results[0], Refused):
            return None, sorted(name for _, name in batch.unread if judges(name))
        first = first or f"{row.place}: {batch.results[0].reason}"
    if not count:
        return f"{where}: expected at least one row, got none in {entry.source.name}; write its rows first", []
    told = f"expected a row that can be trained on among the first {count} of {entry.source.name}, got none"
    return f"{where}: {told}; the first: {first}", []
