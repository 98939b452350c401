"""The file of synthetic preference pairs: `pairs.yaml`."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BeforeValidator

from apo_soup.config.in_words import as_written
from apo_soup.config.keys import (
    AS_NUMBER,
    FINITE,
    Flag,
    NotNegative,
    Positive,
    Said,
    Share,
    Table,
    Text,
    Texts,
    Whole,
    key,
)
from apo_soup.config.mixture import SourceKeys
from apo_soup.config.sides import (
    SAME_CANDIDATES,
    VLLM_HOTTEST,
    MinP,
    Side,
    SideKeys,
    Temperature,
    TopP,
    TransformersSide,
    VllmSide,
)
from apo_soup.config.stage_file import Fault, Keys, StageFile


class FilterKeys(Keys):
    """What an answer must keep to."""

    min_tokens: NotNegative = key(1, "fewest tokens")
    max_tokens: Positive | None = key(None, "most tokens")
    near: Annotated[float, Gt(0), Le(1), FINITE, AS_NUMBER] | None = key(
        None, "share of 5-word runs from which both sides are nearly the same"
    )
    language: Flag = key(False, "drop answers in another language than their prompt's")
    languages: Texts | None = key(None, "languages to tell apart, by ISO 639-1 code; without it, all that are known")

    def faults(self) -> Iterator[Fault]:
        if self.languages and not self.language:
            told = "expected language: true beside it, got none; add it, or leave the key out"
            yield Fault("languages", told, ("language",))
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            told = f"expected at most max_tokens {self.max_tokens}, got {self.min_tokens}; lower it"
            yield Fault("min_tokens", told, ("max_tokens",))


class PromptSource(SourceKeys):
    """One source of prompts."""

    def faults(self) -> Iterator[Fault]:
        if self.gives("format"):
            yield Fault("format", f"expected no such key for prompts, got {as_written(self.format)}; leave the key out")
        if self.weight > 1:
            yield Fault("weight", f"expected at most 1, since a prompt is asked once, got {self.weight:g}; lower it")


def _sources(value: Any) -> Any:
    """One source, or a list of them, each written as an id or as a mapping, as a list of mappings."""
    entries = value if isinstance(value, list) else [value]
    return [{"id": entry} if isinstance(entry, str) else entry for entry in entries]


def _arguments(value: dict[str, Any]) -> dict[str, Any]:
    if "enable_thinking" in value:
        raise ValueError("enable_thinking is told by mode")
    return value


TemplateArguments = Annotated[
    Table, AfterValidator(_arguments), Said("a mapping without enable_thinking, which mode says", "take it out")
]


Prompts = Annotated[
    list[PromptSource],
    BeforeValidator(_sources, json_schema_input_type=str | PromptSource | list[str | PromptSource]),
    Said("a path, a Hub id, a mapping with id, or a list of these"),
]


class PairsFile(StageFile):
    """Who is asked what, and which two answers make a pair."""

    kind: ClassVar[str] = "pairs"

    prompts: Prompts = key(meaning="source or sources of prompts")
    mode: Literal["think", "no_think"] = key(meaning="mode that both sides answer in")
    strong: Side = key(meaning="the side whose answers are chosen")
    weak: Side = key(meaning="the side whose answers are rejected")
    reference: Text = key("answer", "field of a row with the right answer")
    chat_template_kwargs: TemplateArguments | None = key(None, "template arguments of every prompt")
    verifier: Text | None = key(None, "`number`, `exact`, `math`, or `package.module:function`")
    keep: Literal["right_over_wrong", "right_over_any", "strong_over_weak"] | None = key(
        None, "which pairs are kept; by default right over wrong where there is a verifier"
    )
    tie_break: Literal["first", "shortest", "longest"] = key("first", "which of several candidates with one score")
    filters: FilterKeys | None = key(None, "what an answer must keep to")
    length_balance: Annotated[float, Ge(0.5), Le(1), FINITE, AS_NUMBER] | None = key(
        None, "most share of pairs in which one side is the longer one"
    )
    limit: Positive | None = key(None, "most prompts")
    test_share: Annotated[float, Ge(0), Lt(1), FINITE, AS_NUMBER] = key(
        0.0, "share of prompts whose pairs are held out"
    )
    format: Literal["jsonl", "parquet"] = key("jsonl", "how pairs are written")
    max_reject_share: Share = key(0.01, "share of unusable rows that stops the run", cosmetic=True)

    temperature: Temperature = key(0.6, "sampling temperature of both sides")
    top_p: TopP = key(1.0, "share of the likeliest tokens, of both sides")
    top_k: NotNegative = key(0, "number of the likeliest tokens, of both sides; 0 is all")
    min_p: MinP = key(0.0, "least share of the likeliest token's probability, of both sides")
    max_new_tokens: Positive = key(256, "longest answer of both sides, in tokens")
    candidates: Positive = key(1, "answers a prompt of each side")
    seed: Whole = key(0, "seed of both sides' draws and of the draw of prompts")
    batch_size: Positive = key(32, "answers that transformers generates together")

    def faults(self) -> Iterator[Fault]:
        for name, side in (("strong", self.strong), ("weak", self.weak)):
            if isinstance(side, SideKeys):
                yield from self._sampling_faults(name, side)
        if self.gives("tie_break") and self.length_balance:
            told = f"expected no length_balance beside it, got {self.length_balance:g}; leave one of the two out"
            yield Fault("tie_break", told, ("length_balance",))
        if self.gives("reference") and not self.verifier:
            told = "expected verifier beside it, got none; add it, or leave the key out"
            yield Fault("reference", told, ("verifier",))
        sides = [s for s in (self.strong, self.weak) if s is not None]
        if self.gives("batch_size") and sides and not any(isinstance(s, TransformersSide) for s in sides):
            told = "expected a side that transformers runs, got none; leave the key out"
            yield Fault("batch_size", told, ("strong", "weak"))
        if self.keep in ("right_over_wrong", "right_over_any") and not self.verifier:
            told = f"expected verifier beside {self.keep}, to know what is right, got none; add it"
            yield Fault("keep", told, ("verifier",))

    def _sampling_faults(self, name: str, side: SideKeys) -> Iterator[Fault]:
        """What is wrong with a side's sampling where some of it is the file's own."""
        own = side.temperature is not None and side.candidates is not None
        heat = self.temperature if side.temperature is None else side.temperature
        if not own and (side.candidates or self.candidates or 1) > 1 and heat == 0:
            yield Fault(name, SAME_CANDIDATES, ("temperature", "candidates"))
        if isinstance(side, VllmSide) and side.temperature is None and (heat or 0) > VLLM_HOTTEST:
            told = f"expected a temperature of at most {VLLM_HOTTEST:g} for vLLM, got {heat:g}; lower it"
            yield Fault(name, told, ("temperature",))
