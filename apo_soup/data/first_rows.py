"""The first rows of each source through the encoder that prepares them: what a preparation would refuse, before it."""

from collections.abc import Callable, Collection, Iterator
from itertools import islice

from transformers import PreTrainedTokenizerBase

from apo_soup.config.training import TrainingFile
from apo_soup.data.conversations.source_mode import sources_in_mode
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
    """A sentence for each source of which none of the first rows would be trained on.

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
        problem = _problem(entry, encoder, recipe.place(f"dataset_mixture.datasets.{entry.number}.id"))
        if problem:
            yield problem


def _problem(entry: MixtureSource, encoder: RowEncoder, where: str) -> str | None:
    first, count = "", 0
    for row in islice(entry.rows, ROWS_TRIED):
        count += 1
        try:
            (result,) = encoder([RowToEncode(entry.source, row, entry.format, 1, checked=True)]).results
        except UserError as error:
            return str(error)
        if not isinstance(result, Refused):
            return None
        first = first or f"{row.place}: {result.reason}"
    if not count:
        return f"{where}: expected at least one row, got none in {entry.source.name}; write its rows first"
    told = f"expected a row that can be trained on among the first {count} of {entry.source.name}, got none"
    return f"{where}: {told}; the first: {first}"
