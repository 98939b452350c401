"""The file of a walk over training keys: `sweep.yaml`."""

from collections.abc import Iterator
from math import prod
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import MinLen
from pydantic import BeforeValidator

from apo_soup.config.choosing_keys import ChoosingKeys
from apo_soup.config.in_words import as_written
from apo_soup.config.keys import Positive, Table, Text, in_list, key
from apo_soup.config.stage_file import Fault, Remark, StageFile

# Trainings of one walk, at most; and from how many on a person is told.
MOST_POINTS, MANY_POINTS = 100, 20
# What is the same in every training of a walk.
NOT_WALKED = {
    "output_dir": "which the walk gives every point itself",
    "members": "of which the walk has a key of its own",
    "checkpoints": "whose steps are no points of a walk",
}

Values = Annotated[list[Any], MinLen(1), BeforeValidator(in_list, json_schema_input_type=Any)]


class SweepFile(StageFile, ChoosingKeys):
    """Points, a training each with keys of its own, and what they are compared with."""

    kind: ClassVar[str] = "sweep"

    stage: Text = key(
        meaning="the file that trains a point: `mid`, `sft` or `apo`, or another beside this one, as `apo_long`"
    )
    over: Annotated[dict[Text, Values], MinLen(1)] | None = key(
        None,
        "keys of that file, dotted where they lie deeper, with the values of each; every combination is a point",
    )
    points: Annotated[list[Table], MinLen(1)] | None = key(
        None, "further points: mappings of keys to values that go together"
    )
    members: Positive | Literal["all"] = key(
        1, "soup members of a point, the first ones of an apo file; a score is the mean over them"
    )
    against: Text | None = key(
        None,
        "model that points are compared with: a stage or a folder; by default the one that their training begins with",
        path=True,
    )

    def faults(self) -> Iterator[Fault]:
        if self.over is None and self.points is None:
            yield Fault("over", "expected the key, or points, got neither; name keys with their values", ("points",))
        for number, point in enumerate(self.points or []):
            if not point:
                yield Fault(f"points.{number}", "expected keys with values, got none; name one, or remove the point")
        for place, name in [
            *((f"over.{name}", name) for name in self.over or ()),
            *((f"points.{number}.{name}", name) for number, p in enumerate(self.points or []) for name in p),
        ]:
            why = NOT_WALKED.get(str(name).partition(".")[0])
            if why:
                yield Fault(place, f"expected a key that is walked, got {as_written(name)}, {why}; leave it out")
        if self.count > MOST_POINTS:
            told = f"expected at most {MOST_POINTS} points, got {self.count:,}, a training each; give fewer values"
            yield Fault("over" if self.over else "points", told, ("points",))

    def remarks(self) -> Iterator[Remark]:
        if self.count > MANY_POINTS:
            yield Remark("over" if self.over else "points", f"{self.count} points are walked, a training each")

    @property
    def count(self) -> int:
        """How many points the file asks for."""
        grid = prod(len(values) for values in self.over.values()) if self.over else 0
        return grid + len(self.points or [])
