"""What any walk over settings is chosen by: a suite, the score that is to be best, and those that may not fall."""

from typing import Annotated

from annotated_types import Ge

from apo_soup.config.keys import AS_NUMBER, AS_WHOLE, FINITE, Seed, Text, Texts, key
from apo_soup.config.stage_file import Keys


class ChoosingKeys(Keys):
    """The scores of the points of a walk."""

    eval: Text | None = key(None, "eval file; by default the one beside this file", path=True)
    tasks: Texts = key([], "tasks of the eval file; by default all")
    metric: Text | None = key(None, "score that a point is chosen by; by default the first headline score")
    guardrails: dict[Text, Annotated[float, Ge(0), FINITE, AS_NUMBER]] | None = key(
        None, "scores that may not fall by more than a margin beyond noise; by default every other one, not at all"
    )
    bootstrap: Annotated[int, Ge(100), AS_WHOLE] = key(2000, "draws of the bootstrap")
    seed: Seed = key(0, "seed of the bootstrap")
