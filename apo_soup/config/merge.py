"""The file of soup and merge: `merge.yaml`."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Gt, MaxLen, MinLen
from pydantic import BeforeValidator

from apo_soup.config.choosing_keys import ChoosingKeys
from apo_soup.config.keys import (
    AS_NUMBER,
    FINITE,
    Flag,
    Positive,
    Share,
    Text,
    in_list,
    key,
)
from apo_soup.config.mergekit import MergekitKeys, MergekitOptions, plain_float
from apo_soup.config.stage_file import Fault, Keys, StageFile


def _without_torch(value: Any) -> Any:
    return plain_float(value) if isinstance(value, str) else value


FloatType = Annotated[Literal["float64", "float32", "float16", "bfloat16"], BeforeValidator(_without_torch)]
# Keys beside `merge` that decide what is merged.
BESIDE_MERGE = ("long_context", "options")
# The walk of a sweep whose file names no weights.
TENTHS = tuple(n / 10 for n in range(11))


class SoupKeys(Keys):
    """The average of the members, each with the same weight."""

    members: Literal["all", "greedy"] | Annotated[list[Text], MinLen(1)] = key(
        "all", "`all` (kept checkpoints too), `greedy`, or a list of members (`1`, `1-at-50`) and folders"
    )
    dtype: FloatType = key("bfloat16", "type that the soup is written in")
    eval: Text | None = key(None, "eval file of a greedy soup; by default the one beside this file", path=True)
    metric: Text | None = key(None, "score by which members join a greedy soup")

    def faults(self) -> Iterator[Fault]:
        listed = self.members if isinstance(self.members, list) else []
        for number, member in enumerate(listed):
            if member in listed[:number]:
                yield Fault(f"members.{number}", f"expected every member once, got {member} again; list it once")


class LongContextKeys(Keys):
    """YaRN scaling (arXiv 2309.00071), written into the merged folder's configuration."""

    factor: Annotated[float, Gt(1), FINITE, AS_NUMBER] = key(
        meaning="how many times longer than the context the model was trained for"
    )
    original_max_position_embeddings: Positive | None = key(
        None, "the context it was trained for; by default what its configuration says"
    )


class SweepKeys(ChoosingKeys):
    """The walk over the first model's weight."""

    models: Annotated[list[Text], MinLen(2), MaxLen(2)] = key(
        ["soup", "mid"], "the two models, as stages or folders; the weight is the first one's"
    )
    weights: Annotated[list[Share], BeforeValidator(in_list)] = key(
        list(TENTHS), "weights of the first model, 1 among them"
    )

    def faults(self) -> Iterator[Fault]:
        if 1 not in self.weights:
            told = f"expected 1, the first model alone, among them to compare with, got {self.weights}; add 1"
            yield Fault("weights", told)
        for number, weight in enumerate(self.weights):
            if weight in self.weights[:number]:
                yield Fault(f"weights.{number}", f"expected every weight once, got {weight:g} again; list it once")


class MergeFile(StageFile):
    """Soup of the members, then the mix with the mid-training checkpoint: SmolLM3 takes 0.9 and 0.1."""

    kind: ClassVar[str] = "merge"

    output_dir: Text = key(meaning="folder of the run, below the working directory", cosmetic=True)
    soup: SoupKeys | None = key(None, "the average of the members")
    merge: MergekitKeys | None = key(None, "mergekit's own schema; `soup`, `mid`, `sft`, `apo/1` may stand for models")
    one_pass: Flag = key(False, "average members and the rest at once, without a soup folder in between")
    options: MergekitOptions | None = key(None, "mergekit's options")
    long_context: LongContextKeys | None = key(None, "YaRN scaling of the merged model")
    sweep: SweepKeys | None = key(None, "walk over the merge weight")

    def beside_merge(self) -> dict[str, Any]:
        """The given keys beside `merge` that decide what is merged, those that say something."""
        parts = {"long_context": self.long_context, "options": self.options}
        return {name: given for name, part in parts.items() if part and (given := part.given_values())}
