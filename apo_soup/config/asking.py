"""What files have in common that ask models: prompts, the strong side, who judges, what an answer must keep to."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from annotated_types import Ge, Lt, MinLen
from pydantic import AfterValidator, BeforeValidator

from apo_soup.config.in_words import as_written
from apo_soup.config.judges import Judge
from apo_soup.config.keys import (
    AS_NUMBER,
    FINITE,
    Flag,
    NotNegative,
    Positive,
    Said,
    Seed,
    Share,
    Table,
    Text,
    Texts,
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
    MinLen(1),
    BeforeValidator(_sources, json_schema_input_type=str | PromptSource | list[str | PromptSource]),
    Said("a path, a Hub id, a mapping with id, or a list of these"),
]


class AskingFile(StageFile):
    """Who is asked what, and who judges the answers."""

    prompts: Prompts = key(meaning="source or sources of prompts")
    mode: Literal["think", "no_think"] = key(meaning="mode that is answered in", main=True)
    strong: Side = key(meaning="the side whose answers are chosen")
    reference: Text = key("answer", "field of a row with the right answer")
    chat_template_kwargs: TemplateArguments | None = key(None, "template arguments of every prompt")
    verifier: Text | None = key(None, "`number`, `exact`, `math`, or `package.module:function`", main=True)
    judge: Judge | None = key(None, "who scores answers to prompts without a reference, or without a verifier")
    filters: FilterKeys | None = key(None, "what an answer must keep to")
    limit: Positive | None = key(None, "most prompts")
    test_share: Annotated[float, Ge(0), Lt(1), FINITE, AS_NUMBER] = key(0.0, "share of prompts whose rows are held out")
    format: Literal["jsonl", "parquet"] = key("jsonl", "how rows are written")
    max_reject_share: Share = key(0.01, "share of unusable rows that stops the run", cosmetic=True)

    temperature: Temperature = key(0.6, "sampling temperature")
    top_p: TopP = key(1.0, "share of the likeliest tokens")
    top_k: NotNegative = key(0, "number of the likeliest tokens; 0 is all")
    min_p: MinP = key(0.0, "least share of the likeliest token's probability")
    max_new_tokens: Positive = key(256, "longest answer, in tokens")
    candidates: Positive = key(1, "answers a prompt of each side")
    seed: Seed = key(0, "seed of the draws of answers and of prompts")
    batch_size: Positive = key(32, "answers that transformers generates together")

    def sides(self) -> dict[str, SideKeys]:
        """The sides that are asked, by name."""
        return {"strong": self.strong} if isinstance(self.strong, SideKeys) else {}

    def faults(self) -> Iterator[Fault]:
        sides = self.sides()
        for name, side in sides.items():
            yield from self._sampling_faults(name, side)
        if self.gives("reference") and not self.verifier:
            told = "expected verifier beside it, got none; add it, or leave the key out"
            yield Fault("reference", told, ("verifier",))
        if self.gives("batch_size") and sides and not any(isinstance(s, TransformersSide) for s in sides.values()):
            told = "expected a side that transformers runs, got none; leave the key out"
            yield Fault("batch_size", told, tuple(sides))

    def _sampling_faults(self, name: str, side: SideKeys) -> Iterator[Fault]:
        """What is wrong with a side's sampling where some of it is the file's own."""
        own = side.temperature is not None and side.candidates is not None
        heat = self.temperature if side.temperature is None else side.temperature
        if not own and (side.candidates or self.candidates or 1) > 1 and heat == 0:
            yield Fault(name, SAME_CANDIDATES, ("temperature", "candidates"))
        if isinstance(side, VllmSide) and side.temperature is None and (heat or 0) > VLLM_HOTTEST:
            told = f"expected a temperature of at most {VLLM_HOTTEST:g} for vLLM, got {heat:g}; lower it"
            yield Fault(name, told, ("temperature",))
