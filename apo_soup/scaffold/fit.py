"""How long a training's sequences are and how many go through a device at once: by the rows and the plan."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from apo_soup.config.apo import ApoFile
from apo_soup.config.training import TrainingFile
from apo_soup.data.documents import Document, RowToEncode
from apo_soup.data.encode import encoder_for
from apo_soup.data.options import Options
from apo_soup.data.sources.mixture import MixtureSource, mixture_sources
from apo_soup.errors import first_line
from apo_soup.models.recipe_tokenizer import recipe_tokenizer, token_ids
from apo_soup.models.refusals import FORWARD_ERRORS
from apo_soup.plan.fitting import USABLE
from apo_soup.plan.row_counts import SplitCounts
from apo_soup.plan.stage_plan import ConfigNotSeen, largest_batch, peak_memory, setting_of
from apo_soup.runs.makers import missing_sources, upstream
from apo_soup.scaffold.sizes import MachineSize
from apo_soup.scaffold.stages import Cut
from apo_soup.tables import size_text

# Rows of a source whose lengths stand for all.
MEASURED_ROWS = 500
_SHORTEST, _UNCUT = 256, 10**7
# What lengths are halved to at least, where memory is short, and what is tried at once.
_SHORT, _AT_ONCE = 512, (8, 4, 2)


@dataclass(frozen=True)
class RowLengths:
    """The lengths of rows in tokens: of documents, or of a pair's prompt with its longer answer.

    Attributes:
        trained: how many tokens are trained.
        read: how many rows were measured.
        refused: of these, by number, the ones that a training refuses, each with the reason.
    """

    lengths: tuple[int, ...]
    trained: int
    read: int = 0
    refused: tuple[tuple[int, str], ...] = ()

    @property
    def longest(self) -> int:
        """Of the longest one."""
        return max(self.lengths)

    @property
    def mean(self) -> float:
        """Of all."""
        return sum(self.lengths) / len(self.lengths)

    def above(self, length: int) -> int:
        """How many are longer."""
        return sum(one > length for one in self.lengths)


def row_lengths(recipe: TrainingFile, tokenizer: Any) -> RowLengths | None:
    """The lengths of the first rows of every source that is there; None where none is.

    Raises:
        UserError: as a preparation does.
    """
    options = replace(Options.of(recipe), max_length=_UNCUT, strategy=None)
    encoder = encoder_for(tokenizer, options)
    lengths: list[int] = []
    refused: list[tuple[int, str]] = []
    trained = read = 0
    entries: Iterator[MixtureSource] = mixture_sources(recipe, missing_sources(recipe))
    for entry in entries:
        rows = (RowToEncode(entry.source, row, entry.format, 1, checked=False) for row in entry.rows)
        for number, result in enumerate(encoder(list(islice(rows, MEASURED_ROWS))).results):
            read += 1
            if not isinstance(result, Document):
                refused.append((number, result.reason))
                continue
            for part in result.parts:
                sizes = [len(ids) for ids in part]
                lengths.append(sizes[0] + max(sizes[1:]) if options.pairs else sizes[0])
            trained += result.trained
    return RowLengths(tuple(lengths), trained, read, tuple(refused)) if read else None


@dataclass(frozen=True)
class MeasuredCut:
    """How a training's rows are cut, what is to be said of it, and the rows that it refuses: number and reason."""

    cut: Cut
    told: str
    refused: tuple[tuple[int, str], ...] = ()


def chosen_length(lengths: RowLengths, most: int) -> int:
    """The least power of two that holds the longest row, or `most`.

    >>> chosen_length(RowLengths((100, 700), 300), 2048), chosen_length(RowLengths((5000,), 300), 2048)
    (1024, 2048)
    """
    length = _SHORTEST
    while length < lengths.longest and length < most:
        length *= 2
    return min(length, most)


def fitted(recipe: TrainingFile, cut: Cut, lengths: RowLengths, rows: int, machine: MachineSize) -> tuple[Cut, str]:
    """The largest batch, and the longest sequence up to that of `cut`, that a machine's memory holds by the plan; with
    a sentence where nothing does, or where memory is not known.

    Args:
        rows: how many there are.

    Raises:
        UserError: TRL or transformers refuses a value.
    """
    from apo_soup.memory import most_memory_held

    launch, process = machine.processes, float(most_memory_held())
    model = upstream(recipe).model
    try:
        setting = setting_of(recipe, launch, model, token_ids(recipe_tokenizer(recipe)))
    except ConfigNotSeen as error:
        return cut, f"memory is not known: {error}"

    def memory(tried: Cut) -> float:
        changed = recipe.model_copy(update={"max_length": tried.length, "per_device_train_batch_size": tried.at_once})
        of_cut = replace(setting, recipe=changed, checkpointed=tried.checkpointed)
        counts = _counts(recipe, tried, lengths, rows)
        return peak_memory(of_cut, largest_batch(of_cut, counts), process)[0].total

    left, tried, usable = 0.0, cut, USABLE * machine.memory
    try:
        for length in _lengths(cut.length):
            for checkpointed in (False, True):
                tried = replace(cut, length=length, at_once=1, checkpointed=checkpointed)
                left = memory(tried)
                if left <= usable:
                    sizes = (replace(tried, at_once=size).fitting_batch(machine) for size in _AT_ONCE)
                    return next((one for one in sizes if memory(one) <= usable), tried), ""
    except FORWARD_ERRORS as error:
        return cut, f"memory is not known, for the model cannot be run without data ({first_line(error)[:120]})"
    told = f"{recipe.path.name} takes {size_text(left)} at the least, and {machine.told} has {size_text(usable)} for it"
    way = "take a smaller model" if recipe.use_peft else "--lora, --qlora or a smaller model takes less"
    return tried, f"{told}: {way}"


def measured_cut(recipe: TrainingFile, rows: int, window: int | None, machine: MachineSize) -> MeasuredCut:
    """How a training's rows are cut on a machine.

    Raises:
        UserError: the rows cannot be prepared, or a value is refused.
    """
    tokenizer = recipe_tokenizer(recipe)
    lengths = row_lengths(recipe, tokenizer)
    most = min(machine.longest, window or machine.longest)
    if lengths is None:
        return MeasuredCut(Cut(min(most, 1024)), f"{recipe.path.name}: rows are not there yet, max_length is a guess")
    if not lengths.lengths:
        return MeasuredCut(Cut(min(most, 1024)), "", lengths.refused)
    length = chosen_length(lengths, most)
    cut = Cut(length, _sequences(recipe, length, lengths, rows)).unpacked(machine, rows)
    if cut.packed is not None:
        recipe = recipe.model_copy(update={"packing": False})
    cut, told = fitted(recipe, cut, lengths, rows, machine)
    if cut.packed is None:
        cut = replace(cut, sequences=_sequences(recipe, cut.length, lengths, rows))
    seen = f"{recipe.path.name}: rows of {lengths.mean:,.0f} tokens, the longest {lengths.longest:,}"
    seen += f" (of the first {lengths.read:,})" if rows > lengths.read else ""
    over = lengths.above(cut.length)
    seen += f"; max_length {cut.length:,}"
    seen += f", and {over:,} of them longer: cut there, or left out where no trained token is before it" if over else ""
    seen += f"; not packed, for that leaves {cut.packed:,} to an epoch" if cut.packed is not None else ""
    return MeasuredCut(cut, f"{seen}\n{told}" if told else seen, lengths.refused)


def _lengths(longest: int) -> list[int]:
    found = [longest]
    while found[-1] // 2 >= _SHORT:
        found.append(found[-1] // 2)
    return found


def _sequences(recipe: TrainingFile, length: int, lengths: RowLengths, rows: int) -> int:
    """About how many sequences or pairs an epoch has."""
    if isinstance(recipe, ApoFile) or not recipe.packs:
        return rows
    kept = sum(min(one, length) for one in lengths.lengths) / len(lengths.lengths)
    return max(1, round(kept * rows / length))


def _counts(recipe: TrainingFile, cut: Cut, lengths: RowLengths, rows: int) -> SplitCounts:
    """What preparing the rows would count, by those whose lengths are known."""
    sequences = _sequences(recipe, cut.length, lengths, rows)
    longest = min(cut.length, lengths.longest) if isinstance(recipe, ApoFile) else cut.length
    tokens = round(lengths.mean * rows)
    trained = round(tokens * min(1.0, lengths.trained / sum(lengths.lengths)))
    squares = rows * lengths.mean**2
    return SplitCounts(rows, tokens, trained, sequences, longest, longest, squares, held_out=0, folder_bytes=0)
