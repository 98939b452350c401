"""What a run gained: every headline score of a checkpoint beside another one's, item by item, and that in words."""

from dataclasses import dataclass

from apo_soup.report.reported import gain_between, headline_metrics_of_kind, length_order, thinking_metrics
from apo_soup.report.run_files import RunFiles
from apo_soup.runs.results import EvaluatedCheckpoint, score_cell
from apo_soup.statistics import Difference

# Figures that the page begins with.
_FIGURES = 3


@dataclass(frozen=True)
class Gain:
    """A headline metric of two checkpoints: its title, the later score, and the difference on the same items."""

    metric: str
    title: str
    score: float
    difference: Difference

    @property
    def tone(self) -> str:
        """`good` or `bad` beyond noise, else empty."""
        if not self.difference.beyond_noise:
            return ""
        return "good" if self.difference.value > 0 else "bad"


def gains_between(before: EvaluatedCheckpoint, after: EvaluatedCheckpoint, titles: dict[str, str]) -> list[Gain]:
    """The gains of all metrics that both were asked on the same items."""
    found = []
    for metric, title in titles.items():
        difference, score = gain_between(before, after, metric), score_cell(after, metric).value
        if difference is not None and score is not None:
            found.append(Gain(metric, title, score, difference))
    return found


def ends_of_run(run: RunFiles) -> tuple[EvaluatedCheckpoint, EvaluatedCheckpoint] | None:
    """What the run's verdict compares: base, or the first checkpoint that was evaluated, and the last."""
    after = run.by_name.get(run.last or "")
    before = run.by_name.get("base", run.checkpoints[0] if run.checkpoints else None)
    return None if after is None or before is None or before is after else (before, after)


def figures_first(after: EvaluatedCheckpoint, titles: dict[str, str]) -> list[str]:
    """The metrics of the page's first figures, by a rule that looks at no score: thinking, preference, recall at the
    longest length; where there are fewer, the first others of the suite.
    """
    recall = sorted(headline_metrics_of_kind(after, "recall"), key=length_order)
    chosen = [*thinking_metrics(after)[:1], *headline_metrics_of_kind(after, "preference")[:1], *recall[-1:]]
    measured = [metric for metric in titles if score_cell(after, metric).value is not None]
    return list(dict.fromkeys([*(metric for metric in chosen if metric in measured), *measured]))[:_FIGURES]


def told_in_a_sentence(gains: list[Gain], before: str, after: str) -> str:
    """How many scores rose, fell, or did neither beyond noise; those that fell by name."""
    rose = [gain for gain in gains if gain.tone == "good"]
    fell = [gain.title for gain in gains if gain.tone == "bad"]
    if not gains:
        return f"{after} and {before} were not asked the same items, so nothing is said of what was gained."
    same = len(gains) - len(rose) - len(fell)
    parts = [f"{after} is better than {before} in {len(rose)} of {len(gains)} scores"]
    parts += [f"worse in {len(fell)} ({', '.join(fell)})"] if fell else ["worse in none"]
    parts += [f"within noise in {same}"] if same else []
    told = f"{', '.join(parts)}."
    return told[0].upper() + told[1:]
