"""What a training's rows are by a sample of them, where preparing them all would take too long."""

import json
import random
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from apo_soup.config.apo import ApoFile
from apo_soup.config.training import TrainingFile
from apo_soup.data.prepare import prepare_mixture
from apo_soup.data.sources.read import stored_rows
from apo_soup.data.sources.source import Source
from apo_soup.data.stored_statistics import read_statistics
from apo_soup.errors import UserError
from apo_soup.plan.row_counts import SplitCounts, row_counts


def sampled_counts(
    recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, sample: int
) -> tuple[SplitCounts | None, str]:
    """The counts of a file's local rows by a seeded sample of `sample` of them, the same share of each source; and a
    sentence on what they are of. No counts where there are no more rows than that.

    The sample is prepared as the rows would be, and left nowhere. How many rows cannot be used decides nothing here.

    Raises:
        UserError: a source or its sampled rows are at fault.
    """
    mixture = recipe.dataset_mixture
    drawn = [_reservoir(recipe, number, sample) for number in range(len(mixture.datasets))]
    total = sum(count for _, count in drawn)
    if total <= sample:
        return None, ""
    share = sample / total
    # A small weight draws here: of a sample's rows it might leave none.
    parts = [min(1.0, entry.weight) for entry in mixture.datasets]
    with tempfile.TemporaryDirectory(prefix="apo-soup-sample-") as folder:
        asked = [entry.token_share for entry in mixture.datasets if entry.token_share is not None]
        if asked:
            prepared = _prepared(recipe, tokenizer, _Sample(Path(folder) / "all", drawn, share, parts))
            parts = _parts_by_tokens([of_source["trained"] for of_source in read_statistics(prepared)["shares"]], asked)
        prepared = _prepared(recipe, tokenizer, _Sample(Path(folder) / "drawn", drawn, share, parts))
        counts = row_counts(prepared, isinstance(recipe, ApoFile))
    told = f"{recipe.path}: rows, tokens and steps are estimated from {sample:,} of {total:,} rows"
    copies = "; what deduplicate drops is not, for copies are rare in a sample" if mixture.deduplicate else ""
    return _scaled(counts, 1 / share), told + copies


@dataclass(frozen=True)
class _SampledRow:
    """A row as JSON, its number in its source, and its place there."""

    number: int
    text: str
    place: str


@dataclass(frozen=True)
class _Sample:
    """What is prepared of a sample, and where: of each source its drawn rows and how many it has, the share of all rows
    that the sample is, and the part of them that each source gives.
    """

    folder: Path
    drawn: list[tuple[list[_SampledRow], int]]
    share: float
    parts: list[float]


def _parts_by_tokens(trained: list[int], shares: list[float]) -> list[float]:
    """The part of each source that a mixture by tokens takes. Rows are drawn by parts here: of so few whole rows hardly
    any meet the shares.

    >>> _parts_by_tokens([100, 600], [0.5, 0.5])
    [1.0, 0.16666666666666666]
    """
    most = min(tokens / share for tokens, share in zip(trained, shares, strict=True))
    return [share * most / tokens if tokens else 1.0 for tokens, share in zip(trained, shares, strict=True)]


def _prepared(recipe: TrainingFile, tokenizer: PreTrainedTokenizerBase, sample: _Sample) -> Path:
    """The folder of a sample that is prepared as its rows would be.

    Raises:
        UserError: its rows are at fault; the sentence names them in their sources.
    """
    mixture, sources = recipe.dataset_mixture, []
    places: dict[str, str] = {}
    sample.folder.mkdir()
    for number, (rows, count) in enumerate(sample.drawn):
        entry, file = mixture.datasets[number], sample.folder / f"{number}.jsonl"
        # In the order of the source, which a sampled row has no other trace of.
        kept = sorted(rows[: max(1, round(sample.share * count * sample.parts[number]))], key=lambda row: row.number)
        file.write_text("".join(f"{row.text}\n" for row in kept), encoding="utf-8", errors="surrogatepass")
        places |= {f"{file}:{line}": row.place for line, row in enumerate(kept, 1)} | {str(file): entry.written_id}
        of_file = {"id": str(file), "config": None, "split": "train", "weight": max(1.0, entry.weight)}
        sources.append(entry.model_copy(update=of_file | {"token_share": None}))
    held_out = mixture.test_split_size
    if isinstance(held_out, int):
        held_out = max(1, round(held_out * sample.share)) if held_out else held_out
    smaller = mixture.model_copy(update={"datasets": sources, "test_split_size": held_out})
    stage = sample.folder / "run" / Path(recipe.output_dir).name
    output = stage / "1" if recipe.member is not None else stage
    changed = {"dataset_mixture": smaller, "output_dir": str(output), "max_reject_share": 1.0}
    try:
        # What it says is of files that nobody will find.
        return prepare_mixture(recipe.model_copy(update=changed), tokenizer, lambda text: None)
    except UserError as error:
        raise UserError(_with_places(str(error), places)) from error


def _reservoir(recipe: TrainingFile, number: int, size: int) -> tuple[list[_SampledRow], int]:
    """Up to `size` rows of a source, drawn with equal chances in a random order; and how many it has. A row that
    cannot be read is counted, and stays one that cannot be read.
    """
    rng = random.Random(f"{recipe.seed} {number} sample")
    source = Source.from_entry(recipe.dataset_mixture.datasets[number])
    kept: list[_SampledRow] = []
    count = 0
    for row in stored_rows(source, recipe.place(f"dataset_mixture.datasets.{number}.id")):
        place = len(kept) if count < size else rng.randrange(count + 1)
        if place < size:
            text = "{" if row.content is None else json.dumps(row.content, ensure_ascii=False, default=str)
            kept[place : place + 1] = [_SampledRow(count, text, row.place)]
        count += 1
    rng.shuffle(kept)
    return kept, count


def _with_places(sentence: str, places: dict[str, str]) -> str:
    """A sentence of the sample's files with the places of their rows in the sources."""
    named = re.compile("|".join(re.escape(file) + r"(?!\d)" for file in sorted(places, key=len, reverse=True)))
    return named.sub(lambda found: places[found[0]], sentence)


def _scaled(counts: SplitCounts, times: float) -> SplitCounts:
    """Counts of so many times the rows; what is of the longest of them stays."""
    return replace(
        counts,
        rows=round(counts.rows * times),
        tokens=round(counts.tokens * times),
        trained=round(counts.trained * times),
        sequences=round(counts.sequences * times),
        squares=counts.squares * times,
        held_out=round(counts.held_out * times),
        folder_bytes=round(counts.folder_bytes * times),
    )
