"""What the tasks of a suite share: their name and limit, where their items come from, how answers are drawn."""

from collections.abc import Iterator
from typing import Annotated, Literal

from annotated_types import MinLen
from pydantic import AfterValidator, BeforeValidator

from apo_soup.config.keys import NotNegative, Positive, Text, in_list, key
from apo_soup.config.sides import MinP, Temperature, TopP
from apo_soup.config.stage_file import Fault, Keys

Mode = Literal["think", "no_think"]
MODES: tuple[Mode, ...] = ("think", "no_think")
OTHER_MODE: dict[Mode, Mode] = {"think": "no_think", "no_think": "think"}
# A mode that is written twice is asked once.
Modes = Annotated[
    list[Mode], BeforeValidator(in_list), AfterValidator(lambda modes: list(dict.fromkeys(modes))), MinLen(1)
]
SAME_ANSWERS = (
    "expected a temperature above 0 for several answers to an item, which are one and the same without, got {got}; "
    "give temperature, or leave repeats out"
)


class TaskKeys(Keys):
    """What every task has."""

    name: Annotated[Text, MinLen(1)] = key(meaning="name of the task; its scores begin with it")
    limit: Positive | None = key(None, "items that are asked; by default all")


class RepeatedKeys(TaskKeys):
    """A task whose items may be asked several times."""

    repeats: Positive = key(1, "answers to each item; its score is their mean, and pass@k is estimated from them")
    pass_at: Annotated[list[Positive], BeforeValidator(in_list)] = key(
        [], "numbers k of pass@k, none above repeats; by default repeats alone"
    )

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        for number in self.pass_at:
            if number > self.repeats:
                told = f"expected at most {self.repeats}, the answers to an item, got {number}; raise repeats"
                yield Fault("pass_at", told, beside=("repeats",))


class SampledKeys(RepeatedKeys):
    """A task whose answers are drawn by keys of its own."""

    max_new_tokens: Positive | None = key(None, "longest answer, in tokens")
    temperature: Temperature = key(0.0, "sampling temperature; 0 is greedy")
    top_p: TopP = key(1.0, "share of the likeliest tokens that are drawn from")
    top_k: NotNegative = key(0, "number of the likeliest tokens that are drawn from; 0 is all")
    min_p: MinP = key(0.0, "least share of the likeliest token's probability")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if self.temperature > 0:
            return
        if self.repeats > 1:
            yield Fault("repeats", SAME_ANSWERS.format(got=f"{self.repeats} and 0"), beside=("temperature",))
        for name in ("top_p", "top_k", "min_p"):
            if self.differs(name):
                told = "expected a temperature above 0 beside it, got none, and a greedy answer draws from nothing"
                yield Fault(name, f"{told}; give temperature, or leave {name} out", beside=("temperature",))


class MadeOrRead(TaskKeys):
    """A task whose items are read from a file or made from the suite's seed."""

    data: Text | None = key(None, "file of items", path=True)
    generate: Keys | None = key(None, "items made here")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if (self.data is None) == (self.generate is None):
            got, way = ("neither", "add one") if self.data is None else ("both", "leave one of them out")
            yield Fault("name", f"expected data or generate for task {self.name}, got {got}; {way}")
