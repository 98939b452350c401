"""Who judges answers that no reference can verify: a model behind an endpoint, or a reward model."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Len
from pydantic import Discriminator, Tag

from apo_soup.config.endpoint import EndpointKeys
from apo_soup.config.keys import Flag, LoadedType, Number, Positive, Seed, Text, key
from apo_soup.config.sides import Temperature
from apo_soup.config.stage_file import Fault, Keys

# Places of a judge's template that are filled in; the first two must be there.
PLACES = ("{question}", "{answer}", "{least}", "{most}")
DEFAULT_TEMPLATE = """Judge the answer below to the question below.

[question]
{question}
[end of question]

[answer]
{answer}
[end of answer]

Say in a few sentences what is right and what is wrong with the answer. Then write a last line of this form and nothing
behind it, with a number from {least} (worthless) to {most} (perfect):
Score: NUMBER"""


class EndpointJudge(EndpointKeys):
    """A judge behind an OpenAI-compatible endpoint."""

    kind: ClassVar[str] = "openai"

    engine: Literal["openai"] | None = key(None, "what runs the judge")
    template: Text = key(
        DEFAULT_TEMPLATE, "what the judge is asked, with `{question}` and `{answer}` in it; `{least}` and `{most}` too"
    )
    scale: Annotated[list[Number], Len(2, 2)] = key([1, 10], "least and greatest score")
    votes: Positive = key(1, "times that the judge is asked about an answer; the score is the mean")
    temperature: Temperature = key(0.0, "sampling temperature of the judge")
    max_new_tokens: Positive = key(1024, "longest verdict, in tokens")
    seed: Seed = key(0, "seed of the votes")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        yield from missing_places(self.template)
        if self.scale[0] >= self.scale[1]:
            yield Fault("scale", f"expected the least score first, got {self.scale[0]:g}, {self.scale[1]:g}; swap them")
        if self.votes > 1 and self.temperature == 0:
            told = f"expected a temperature above 0 for {self.votes} votes, which are one and the same at 0, got 0"
            yield Fault("votes", f"{told}; raise it, or ask for one vote", ("temperature",))


class RewardJudge(Keys):
    """A sequence classifier of transformers with one logit, which is the score."""

    kind: ClassVar[str] = "reward"

    engine: Literal["reward"] = key(meaning="what runs the judge")
    model: Text = key(meaning="folder or Hub id of the reward model", path=True, input=True)
    revision: Text | None = key(None, "branch, tag or commit of a model of the Hub")
    dtype: LoadedType = key("auto", "type that weights are loaded in")
    batch_size: Positive = key(8, "answers that are scored together")
    chat_template: Text | None = key(None, "template in place of the tokenizer's own", path=True)
    trust_remote_code: Flag = key(False, "run code that comes with the model")


def _engine(judge: Any) -> str:
    """The engine of a judge: as named, else an endpoint."""
    if isinstance(judge, (EndpointJudge, RewardJudge)):
        return judge.kind
    keys = judge if isinstance(judge, dict) else {}
    return "reward" if keys.get("engine") == "reward" else "openai"


Judge = Annotated[
    Annotated[EndpointJudge, Tag("openai")] | Annotated[RewardJudge, Tag("reward")], Discriminator(_engine)
]


class RefusalJudge(EndpointKeys):
    """A model behind an OpenAI-compatible endpoint that says whether an answer declines."""

    template: Text | None = key(
        None, "what the judge is asked, with `{question}` and `{answer}` in it; ours by default"
    )
    max_new_tokens: Positive = key(512, "longest verdict, in tokens")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        yield from missing_places(self.template) if self.template is not None else ()


def missing_places(template: str) -> Iterator[Fault]:
    """The fault of a judge's template that has no place for the question or the answer."""
    missing = [place for place in PLACES[:2] if place not in template]
    if missing:
        yield Fault("template", f"expected {' and '.join(missing)} in it, got a text without; add the place")
