"""The file of synthetic preference pairs: `pairs.yaml`."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from apo_soup.config.asking import AskingFile, FilterKeys
from apo_soup.config.judges import EndpointJudge
from apo_soup.config.keys import AS_NUMBER, FINITE, key
from apo_soup.config.sides import Side, SideKeys
from apo_soup.config.stage_file import Fault


class PairFilterKeys(FilterKeys):
    """What answers must keep to, and both of them together."""

    near: Annotated[float, Gt(0), Le(1), FINITE, AS_NUMBER] | None = key(
        None, "share of 5-word runs from which both sides are nearly the same"
    )


class PairsFile(AskingFile):
    """Who is asked what, and which two answers make a pair."""

    kind: ClassVar[str] = "pairs"

    weak: Side = key(meaning="the side whose answers are rejected")
    keep: Literal["right_over_wrong", "right_over_any", "strong_over_weak"] | None = key(
        None, "which pairs are kept; by default right over wrong where there is a verifier", main=True
    )
    tie_break: Literal["first", "shortest", "longest"] = key("first", "which of several candidates with one score")
    filters: PairFilterKeys | None = key(None, "what an answer must keep to")
    length_balance: Annotated[float, Ge(0.5), Le(1), FINITE, AS_NUMBER] | None = key(
        None, "most share of pairs in which one side is the longer one"
    )
    margin: Annotated[float, Ge(0), FINITE, AS_NUMBER] = key(
        0.0, "by how much a judge must score the chosen answer above the rejected one; never by nothing"
    )

    def sides(self) -> dict[str, SideKeys]:
        weak = {"weak": self.weak} if isinstance(self.weak, SideKeys) else {}
        return super().sides() | weak

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if self.gives("tie_break") and self.length_balance:
            told = f"expected no length_balance beside it, got {self.length_balance:g}; leave one of the two out"
            yield Fault("tie_break", told, ("length_balance",))
        if self.keep in ("right_over_wrong", "right_over_any") and not self.verifier:
            told = f"expected verifier beside {self.keep}, to know what is right, got none; add it"
            yield Fault("keep", told, ("verifier",))
        if self.gives("margin") and not self.judge:
            told = "expected judge beside it, whose scores it is about, got none; add it, or leave the key out"
            yield Fault("margin", told, ("judge",))
        scale = self.judge.scale if isinstance(self.judge, EndpointJudge) else None
        if scale and self.margin > scale[1] - scale[0] > 0:
            told = f"expected at most {scale[1] - scale[0]:g}, the width of the judge's scale, got {self.margin:g}"
            yield Fault("margin", f"{told}, by which no two scores differ; lower it", ("judge",))
