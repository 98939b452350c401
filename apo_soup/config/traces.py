"""The file of reasoning traces, rows for mid and sft that a strong model alone makes: `traces.yaml`."""

from collections.abc import Iterator
from typing import ClassVar, Literal

from apo_soup.config.asking import AskingFile
from apo_soup.config.judges import EndpointJudge
from apo_soup.config.keys import Number, key
from apo_soup.config.stage_file import Fault


class TracesFile(AskingFile):
    """Who is asked what, and which answers make rows."""

    kind: ClassVar[str] = "traces"

    keep: Literal["right", "best", "any"] | None = key(
        None,
        "which answers make rows: all that are right, the best right one of a prompt, or all that pass the filters; by "
        "default `right` where there is a verifier or a judge's threshold, else `any`",
        main=True,
    )
    threshold: Number | None = key(None, "least score of a judge that makes an answer right")
    tie_break: Literal["first", "shortest", "longest"] = key("first", "which of several best answers")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if self.threshold is not None and not self.judge:
            told = "expected judge beside it, whose scores it is about, got none; add it, or leave the key out"
            yield Fault("threshold", told, ("judge",))
        scale = self.judge.scale if isinstance(self.judge, EndpointJudge) else None
        if self.threshold is not None and scale and self.threshold > scale[1]:
            told = f"expected at most {scale[1]:g}, the judge's greatest score, got {self.threshold:g}; lower it"
            yield Fault("threshold", told, ("judge",))
        if self.keep == "right" and not self.verifier and self.threshold is None:
            told = "expected verifier or threshold beside right, to know what is right, got neither; add one"
            yield Fault("keep", told, ("verifier", "threshold"))
        if self.keep == "best" and not self.verifier and not self.judge:
            told = "expected verifier or judge beside best, to know what is better, got neither; add one"
            yield Fault("keep", told, ("verifier", "judge"))
        if self.gives("tie_break") and self.keep != "best":
            told = "expected keep: best beside it, which takes one answer of several, got another; leave the key out"
            yield Fault("tie_break", told, ("keep",))
