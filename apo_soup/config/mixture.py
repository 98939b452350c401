"""`dataset_mixture`: the sources of a training file's rows, and what is done to their union."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BeforeValidator

from apo_soup.config.file_names import row_kind
from apo_soup.config.in_words import as_written
from apo_soup.config.keys import (
    AS_NUMBER,
    AS_WHOLE,
    FINITE,
    AboveZero,
    Flag,
    Positive,
    ProperShare,
    Said,
    Seed,
    Table,
    Text,
    Texts,
    in_list,
    key,
)
from apo_soup.config.stage_file import Fault, Keys, Remark

HELD_OUT = "a share between 0 and 1, or a number of rows of 1 or more"
# What shares that a person wrote may miss of 1.
ROUNDING = 1e-6
# How often rows are hardly taken on purpose: a percentage may be meant.
MANY_TIMES = 10


class Located(Keys):
    """Something that an `id` names: a path, looked for beside the recipe and then in the working directory, or an id of
    the Hub.
    """

    id: Text = key(
        meaning="a path (JSONL, JSON, CSV, TSV, Parquet, Arrow, or a glob of them), or an id of the Hub", path=True
    )

    @property
    def written_id(self) -> str:
        """The id as the file has it, whichever folder it was found in."""
        return str(self.written("id"))


class HubKeys(Located):
    """Which part of a dataset of the Hub is meant; a local file has no use for these."""

    config: Text | None = key(None, "configuration of a Hub dataset")
    split: Text = key("train", "split of a Hub dataset")
    revision: Text | None = key(None, "branch, tag or commit of a Hub dataset")

    def hub_keys(self) -> list[str]:
        """Those of the given keys that only a dataset of the Hub has a use for."""
        asked = {
            "config": self.config is not None,
            "split": self.split != "train",
            "revision": self.revision is not None,
        }
        return [name for name, unusual in asked.items() if unusual]

    @property
    def is_file(self) -> bool:
        """Whether the id can only be that of a file here."""
        return row_kind(Path(self.id)) is not None or os.path.exists(self.id)  # which takes a text that can be no path

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if self.is_file and "[" in self.split:
            told = "expected no slice of a local file, all of which is read, got"
            way = "write those rows into a file of their own, or give a share of all as weight"
            yield Fault("split", f"{told} {as_written(self.split)}; {way}")

    def remarks(self) -> Iterator[Remark]:
        unused = self.hub_keys()
        if unused and self.is_file:
            are = "belongs to Hub datasets and is" if len(unused) == 1 else "belong to Hub datasets and are"
            yield Remark("id", f"{', '.join(unused)} {are} not used for a local file")


def mode_faults(arguments: dict[str, Any] | None) -> Iterator[Fault]:
    """The fault of an `enable_thinking` among template arguments that is neither true nor false, quoted perhaps."""
    thinks = (arguments or {}).get("enable_thinking", False)
    if not isinstance(thinks, bool):
        got = "none" if thinks is None else as_written(thinks)
        told = f"expected true or false without quotes, got {got}; write one, or leave it out"
        yield Fault("chat_template_kwargs.enable_thinking", told)


class SourceKeys(HubKeys):
    """One source of rows."""

    columns: Texts | None = key(None, "columns to read; without it, all")
    weight: AboveZero = key(1.0, "share of the rows that is taken; above 1 repeats rows")
    format: Text | None = key(None, "format of the rows, where it is not to be found from them")
    rename: dict[Text, Text] | None = key(None, "columns of the data and the names that a format knows them by")
    streaming: Flag = key(False, "read a Hub dataset as a stream")
    chat_template_kwargs: Table | None = key(None, "template arguments of the source's rows; a row's own win")
    keep_nulls: Flag = key(False, "keep nulls inside calls and tools; else they are keys that a row does not have")

    def hub_keys(self) -> list[str]:
        return [*super().hub_keys(), *(["streaming"] if self.streaming else [])]

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        yield from mode_faults(self.chat_template_kwargs)


class TrainedSourceKeys(SourceKeys):
    """One source of rows to train on."""

    turn_order: Literal["join", "drop_leading", "refuse"] | None = key(
        None,
        "turns in an unusual order: `join` those of one role, `drop_leading` turns of the assistant, or `refuse` the "
        "row; without it, as the template takes them",
    )
    system_turn: Literal["into_user", "drop"] | None = key(
        None,
        "the system text: `into_user` writes it into the first user turn, for templates without a place for it, `drop` "
        "leaves it out; without it, as the template takes it",
    )
    mode: Literal["by_row"] | None = key(
        None, "`by_row`: a row with reasoning is a think row and one without a no-think row, where it states no mode"
    )
    token_share: Annotated[float, Gt(0), Le(1), FINITE, AS_NUMBER] | None = key(
        None, "share of the trained tokens, in place of `weight`: in every source, 1 together"
    )

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if self.mode and "enable_thinking" in (self.chat_template_kwargs or {}):
            told = "expected one way to give the mode, got enable_thinking beside it; leave one out"
            yield Fault("mode", told, ("chat_template_kwargs",))


class EvalPromptsKeys(HubKeys):
    """Rows of an evaluation that training rows must not repeat."""

    column: Text | None = key(None, "column that holds the prompt; without it, the usual names are tried")


class Mixture(Keys):
    """Sources, the seed that draws from them, and what is cleaned away."""

    datasets: Annotated[list[TrainedSourceKeys], MinLen(1)] = key(meaning="the sources, a mapping with `id` each")
    seed: Seed = key(0, "seed of the draw and of the order of rows")
    test_split_size: Annotated[ProperShare | Positive | None, Said(HELD_OUT)] = key(
        None, "rows held out for evaluation while training: a share of them, or their number"
    )
    deduplicate: Literal["exact", "near"] | None = key(None, "drop rows that are there twice, or nearly so")
    deduplicate_threshold: Annotated[float, Ge(0.3), Lt(1), FINITE, AS_NUMBER] = key(
        0.8, "similarity of near duplicates"
    )
    decontaminate: Annotated[
        Annotated[list[Text | EvalPromptsKeys], BeforeValidator(in_list)] | None,
        Said("a list of suite files, data files, or mappings with `id`"),
    ] = key(None, "evaluations whose prompts are kept out of the rows", path=True)
    decontaminate_ngram: Annotated[int, Ge(2), AS_WHOLE] = key(
        13, "words in a row that a row may not share with a prompt"
    )

    def faults(self) -> Iterator[Fault]:
        yield from self._faults_of_shares()
        if self.gives("deduplicate_threshold") and self.deduplicate != "near":
            got = self.deduplicate or "none"
            told = f"expected deduplicate: near beside it, got {got}; write it, or leave the key out"
            yield Fault("deduplicate_threshold", told, ("deduplicate",))
        if self.gives("decontaminate_ngram") and not self.decontaminate:
            told = "expected decontaminate beside it, got none; add it, or leave the key out"
            yield Fault("decontaminate_ngram", told, ("decontaminate",))

    def remarks(self) -> Iterator[Remark]:
        for number, source in enumerate(self.datasets):
            first = next((n for n, other in enumerate(self.datasets[:number]) if _same_rows(source, other)), None)
            if first is not None:
                told = f"the rows of datasets.{first} are taken again; where that is meant, its weight can say so"
                yield Remark(f"datasets.{number}", told)
            if source.weight >= MANY_TIMES:
                told = f"each row is taken {source.weight:g} times; a part of the rows is a weight below 1, such as 0.5"
                yield Remark(f"datasets.{number}.weight", told)

    def _faults_of_shares(self) -> Iterator[Fault]:
        shares = [source.token_share for source in self.datasets]
        if all(share is None for share in shares):
            return
        for number, source in enumerate(self.datasets):
            if source.token_share is None:
                told = "expected a token_share in every source or in none, got none here; add it"
                yield Fault(f"datasets.{number}", told)
            elif source.gives("weight"):
                told = "expected weight or token_share, got both; leave one of them out"
                yield Fault(f"datasets.{number}.weight", told)
        total = sum(share or 0 for share in shares)
        if None not in shares and abs(total - 1) > ROUNDING:
            yield Fault("datasets", f"expected shares token_share that sum to 1, got {total:g}; correct them")


def _same_rows(one: SourceKeys, other: SourceKeys) -> bool:
    """Whether two sources give the same rows in the same way, but for how many of them."""
    return one.model_dump(exclude={"weight"}) == other.model_dump(exclude={"weight"})


def is_suite(entry: "str | EvalPromptsKeys") -> bool:
    """Whether an entry of `decontaminate` is an eval file."""
    return isinstance(entry, str) and Path(entry).suffix in (".yaml", ".yml")
