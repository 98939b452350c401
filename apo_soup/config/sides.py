"""The two sides of a pairs file: which model answers, what runs it, and how it is sampled."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le, Lt
from pydantic import Discriminator, Tag

from apo_soup.config.endpoint import EndpointKeys
from apo_soup.config.keys import AS_NUMBER, FINITE, Flag, LoadedType, NotNegative, Positive, Seed, Table, Text, key
from apo_soup.config.stage_file import Fault, Keys

Temperature = Annotated[float, Ge(0), FINITE, AS_NUMBER]
TopP = Annotated[float, Gt(0), Le(1), FINITE, AS_NUMBER]
MinP = Annotated[float, Ge(0), Lt(1), FINITE, AS_NUMBER]
# Arguments of vllm.LLM that have keys of their own here.
VLLM_OWN = ("model", "revision", "dtype", "trust_remote_code", "seed")
# vLLM refuses hotter sampling.
VLLM_HOTTEST = 2.0
SAME_CANDIDATES = (
    "expected a temperature above 0 for several candidates, which are one and the same at 0, got 0; raise it, or ask "
    "for one candidate"
)


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
    seed: Seed | None = key(None, "seed of the draws")

    def faults(self) -> Iterator[Fault]:
        if self.candidates and self.candidates > 1 and self.temperature == 0:
            yield Fault("temperature", SAME_CANDIDATES)


class LocalSide(SideKeys):
    """A side whose model is loaded in this process."""

    revision: Text | None = key(None, "branch, tag or commit of a model of the Hub")
    dtype: LoadedType = key("auto", "type that weights are loaded in")
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
            told = f"expected no {own}, which is a key of its own, got one; write {own} beside engine_kwargs"
            yield Fault("engine_kwargs", told)
        if self.temperature is not None and self.temperature > VLLM_HOTTEST:
            yield Fault(
                "temperature", f"expected at most {VLLM_HOTTEST:g} for vLLM, got {self.temperature:g}; lower it"
            )


class OpenaiSide(EndpointKeys, SideKeys):
    """A model behind an OpenAI-compatible endpoint."""

    kind: ClassVar[str] = "openai"

    model: Text = key(meaning="the name that the endpoint knows the model by", input=True)
    send_template_kwargs: Flag = key(True, "send the template's arguments, which hold the mode")

    def faults(self) -> Iterator[Fault]:
        yield from SideKeys.faults(self)
        yield from super().faults()


def _engine(side: Any) -> str:
    """The engine of a side: as named, an endpoint where there is an address, transformers elsewhere.

    It chooses the class that checks a side's keys, so it reads them as the file has them.
    """
    if isinstance(side, SideKeys):
        return side.kind
    keys = side if isinstance(side, dict) else {}
    if keys.get("engine") in ("transformers", "vllm", "openai"):
        return str(keys["engine"])
    return "transformers" if keys.get("base_url") is None else "openai"


Side = Annotated[
    Annotated[TransformersSide, Tag("transformers")]
    | Annotated[VllmSide, Tag("vllm")]
    | Annotated[OpenaiSide, Tag("openai")],
    Discriminator(_engine),
]
