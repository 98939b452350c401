"""Tasks of a suite that another project's program scores, in an environment of its own: LiveCodeBench and BFCL."""

from collections.abc import Iterator
from datetime import date
from typing import Annotated, Any, Literal

from annotated_types import MinLen
from pydantic import BeforeValidator

from apo_soup.config.eval_keys import MODES, Modes, SampledKeys
from apo_soup.config.keys import Flag, Positive, Text, in_list, key
from apo_soup.config.stage_file import Fault

LiveCodeRelease = Literal["release_v1", "release_v2", "release_v3", "release_v4", "release_v5", "release_v6"]
BfclCategory = Literal[
    "simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance", "live_simple", "live_multiple",
    "live_parallel", "live_parallel_multiple", "live_irrelevance", "live_relevance",
]  # fmt: skip


def _day(value: Any) -> Any:
    """A day as text; YAML reads one without quotes as a date."""
    return value.isoformat() if isinstance(value, date) else value


Day = Annotated[Text, BeforeValidator(_day)]


class LiveCodeBenchTask(SampledKeys):
    """Programs for LiveCodeBench's problems. Rows: the columns of its data set `code_generation_lite`."""

    kind: Literal["livecodebench"] = key(meaning="what is asked of the model")
    data: Text | None = key(None, "file or folder of problems; by default the Hub's of `release`", path=True)
    release: LiveCodeRelease | None = key(None, "release of the data set, such as `release_v4`")
    start_date: Day | None = key(None, "first day of the contests, as 2024-08-01")
    end_date: Day | None = key(None, "last day of the contests")
    modes: Modes = key(list(MODES), "modes that the items are asked in")
    program: Text | None = key(None, "folder of LiveCodeBench's repository, whose program scores", path=True)
    python: Text | None = key(None, "Python of its environment; by default the one that runs here", path=True)
    unsafe_code: Flag = key(False, "let that program run code that the model writes")
    processes: Positive = key(4, "answers that are run at once", cosmetic=True)
    timeout: Positive = key(6, "seconds that a test may take")

    def faults(self) -> Iterator[Fault]:
        yield from super().faults()
        if (self.data is None) == (self.release is None):
            got, way = ("neither", "add one") if self.data is None else ("both", "leave one of them out")
            yield Fault("name", f"expected data or release for task {self.name}, got {got}; {way}")
        yield from self._date_faults()
        if self.program and not self.unsafe_code:
            told = "expected unsafe_code: true beside it, since it runs what the model writes, got none"
            yield Fault("program", f"{told}; add that in a sandbox, or leave program out", beside=("unsafe_code",))
        for name, given in (("python", self.gives("python")), ("unsafe_code", self.unsafe_code)):
            if given and not self.program:
                told = "expected program beside it, the folder of LiveCodeBench's repository, got none"
                yield Fault(name, f"{told}; add it, or leave {name} out", beside=("program",))

    def _date_faults(self) -> Iterator[Fault]:
        days = []
        for name, given in (("start_date", self.start_date), ("end_date", self.end_date)):
            try:
                days.append(date.fromisoformat(given or "2024-08-01"))
            except ValueError:
                yield Fault(name, f"expected a day such as 2024-08-01, got {given!r}; correct it")
                return
        if self.start_date and self.end_date and days[1] < days[0]:
            told = f"expected a day that is not before start_date {self.start_date}, got {self.end_date}"
            yield Fault("end_date", f"{told}; correct one of them", beside=("start_date",))


class BfclTask(SampledKeys):
    """Tool calls for the single-turn problems of the package bfcl-eval, which has them and judges them."""

    kind: Literal["bfcl"] = key(meaning="what is asked of the model")
    python: Text = key(meaning="Python of an environment with bfcl-eval, whose pins are not ours", path=True)
    categories: Annotated[list[BfclCategory], BeforeValidator(in_list), MinLen(1)] = key(
        ["simple_python", "multiple", "parallel", "parallel_multiple", "irrelevance"], "categories of problems"
    )
    modes: Modes = key(list(MODES), "modes that the items are asked in")
