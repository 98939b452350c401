"""The file of synthetic preference pairs: `pairs.yaml`."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, BeforeValidator, Discriminator, Tag

from apo_soup.config.keys import (
    AS_NUMBER,
    FINITE,
    AboveZero,
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
from apo_soup.config.stage_file import Fault, Keys, StageFile

Temperature = Annotated[float, Ge(0), FINITE, AS_NUMBER]
TopP = Annotated[float, Gt(0), Le(1), FINITE, AS_NUMBER]
MinP = Annotated[float, Ge(0), Lt(1), FINITE, AS_NUMBER]
# Arguments of vllm.LLM that have keys of their own here.
VLLM_OWN = ("model", "revision", "dtype", "trust_remote_code", "seed")
# vLLM refuses hotter sampling.
VLLM_HOTTEST = 2.0


class SideKeys(Keys):
    """One side: which model answers, and how it is sampled. A key that is left out is the file's own."""

    kind: ClassVar[str]

    engine: Literal["transformers", "vllm", "openai"] | None = key(None, "what runs the model; by default transformers")
    model: Text = key(meaning="folder, Hub id, or the name that an endpoint knows", path=True, input=True)
    temperature: Temperature | None = key(None, "sampling temperature; 0 is greedy")
    top_p: TopP | None = key(None, "share of the likeliest tokens that are drawn from")
    top_k: NotNegative | None = key(None, "number of the likeliest tokens that are drawn from; 0 is all")
    min_p: MinP | None = key(None, "least share of the likeliest token's probability")
    max_new_tokens: Positive | None = key(None, "longest answer, in tokens")
    candidates: Positive | None = key(None, "answers a prompt")
    seed: Whole | None = key(None, "seed of the draws")

    def faults(self) -> Iterator[Fault]:
        if self.candidates and self.candidates > 1 and self.temperature == 0:
            yield "temperature", "several candidates at temperature 0 are one and the same; raise it, or ask for one"


class LocalSide(SideKeys):
    """A side whose model is loaded in this process."""

    revision: Text | None = key(None, "branch, tag or commit of a model of the Hub")
    dtype: Text = key("auto", "type that weights are loaded in")
    chat_template: Text | None = key(None, "template in place of the tokenizer's own", path=True)
    trust_remote_code: Flag = key(False, "run code that comes with the model")


class TransformersSide(LocalSide):
    """A model run by transformers."""

    kind: ClassVar[str] = "transformers"

    batch_size: Positive | None = key(None, "answers generated together")


class VllmSide(LocalSide):
    """A model run by vLLM in this process."""

    kind: ClassVar[str] = "vllm"

    engine_kwargs: Table | None = key(None, "further arguments of `vllm.LLM`")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        for own in (self.engine_kwargs or {}).keys() & set(VLLM_OWN):
            yield "engine_kwargs", f"{own} would go past this file; write the key {own} itself"
        if self.temperature is not None and self.temperature > VLLM_HOTTEST:
            yield "temperature", f"expected at most {VLLM_HOTTEST:g}, which vLLM takes, got {self.temperature:g}"


class OpenaiSide(SideKeys):
    """A model behind an OpenAI-compatible endpoint."""

    kind: ClassVar[str] = "openai"

    model: Text = key(meaning="the name that the endpoint knows the model by", input=True)
    base_url: Text = key(meaning="address of the endpoint, such as http://localhost:8000/v1", input=True)
    api_key_env: Text = key("OPENAI_API_KEY", "environment variable that holds the key", cosmetic=True)
    concurrency: Positive = key(32, "requests under way at a time", cosmetic=True)
    requests_per_minute: AboveZero | None = key(None, "most requests a minute", cosmetic=True)
    timeout: AboveZero = key(600.0, "seconds that a request may take", cosmetic=True)
    retries: NotNegative = key(6, "tries again after a failure that may pass", cosmetic=True)
    send_template_kwargs: Flag = key(True, "send the template's arguments, which hold the mode")
    extra_body: Table | None = key(None, "further fields of every request")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        wrong = address_fault(self.base_url)
        if wrong:
            yield "base_url", wrong
        if "chat_template_kwargs" in (self.extra_body or {}):
            told = "chat_template_kwargs would go past this file; write the key chat_template_kwargs itself"
            yield "extra_body", told
        if not self.api_key_env.isidentifier():
            yield (
                "api_key_env",
                "expected the name of an environment variable; a key itself stands in no file",
            )


def address_fault(address: str) -> str | None:
    """What is wrong with an endpoint's address, or None; it is not repeated where it may hold a password."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        return f"expected an address such as http://localhost:8000/v1, got {address!r} ({error})"
    if "@" in parts.netloc:
        return "expected an address without name and password; put the key into the variable of api_key_env"
    if parts.scheme not in ("http", "https"):
        return f"expected an address that begins with http:// or https://, got {address!r}"
    return None


def _engine(side: Any) -> str:
    """The engine of a side: as named, an endpoint where there is an address, transformers elsewhere."""
    if isinstance(side, dict):
        named, address = side.get("engine"), side.get("base_url")
    else:
        named, address = getattr(side, "engine", None), getattr(side, "base_url", None)
    known = named in ("transformers", "vllm", "openai")
    return str(named) if known else "openai" if address is not None else "transformers"


Side = Annotated[
    Annotated[TransformersSide, Tag("transformers")]
    | Annotated[VllmSide, Tag("vllm")]
    | Annotated[OpenaiSide, Tag("openai")],
    Discriminator(_engine),
]


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
            yield "languages", "the key has no effect without language: true"
        if self.max_tokens is not None and self.min_tokens > self.max_tokens:
            yield "min_tokens", f"expected at most max_tokens {self.max_tokens}, got {self.min_tokens}"


class PromptSource(SourceKeys):
    """One source of prompts."""

    def faults(self) -> Iterator[Fault]:
        if self.gives("format"):
            yield "format", "the key has no effect on prompts; leave it out"
        if self.weight > 1:
            yield "weight", f"expected at most 1, since a prompt is asked once, got {self.weight:g}"


def _sources(value: Any) -> Any:
    """One source, or a list of them, each written as an id or as a mapping, as a list of mappings."""
    entries = value if isinstance(value, list) else [value]
    return [{"id": entry} if isinstance(entry, str) else entry for entry in entries]


def _arguments(value: dict[str, Any]) -> dict[str, Any]:
    if "enable_thinking" in value:
        raise ValueError("enable_thinking is told by mode")
    return value


TemplateArguments = Annotated[
    Table, AfterValidator(_arguments), Said("a mapping without enable_thinking, which mode says")
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
                yield from ((name, told) for told in self._sampling_faults(side))
        if self.gives("tie_break") and self.length_balance:
            yield "tie_break", "the key has no effect beside length_balance; leave one of them out"
        if self.gives("reference") and not self.verifier:
            yield "reference", "the key has no effect without a verifier"
        sides = [s for s in (self.strong, self.weak) if s is not None]
        if self.gives("batch_size") and sides and not any(isinstance(s, TransformersSide) for s in sides):
            yield "batch_size", "the key has no effect, since no side is run by transformers"
        if self.keep in ("right_over_wrong", "right_over_any") and not self.verifier:
            yield "keep", f"{self.keep} needs a verifier to know what is right; add verifier"

    def _sampling_faults(self, side: SideKeys) -> Iterator[str]:
        """What is wrong with a side's sampling where some of it is the file's own."""
        own = side.temperature is not None and side.candidates is not None
        heat = self.temperature if side.temperature is None else side.temperature
        if not own and (side.candidates or self.candidates or 1) > 1 and heat == 0:
            yield "several candidates at temperature 0 are one and the same; raise it, or ask for one"
        if isinstance(side, VllmSide) and side.temperature is None and (heat or 0) > VLLM_HOTTEST:
            yield f"expected a temperature of at most {VLLM_HOTTEST:g}, which vLLM takes, got {heat:g}"
