"""What a reader sees first: the model, what it was made of, three figures with their change, and the verdict."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from apo_soup.errors import UserError
from apo_soup.progress import clock
from apo_soup.report.blocks import interval_text
from apo_soup.report.claims import Claim
from apo_soup.report.cost import seconds_together
from apo_soup.report.gains import Gain, ends_of_run, figures_first, gains_between, told_in_a_sentence
from apo_soup.report.lineage import lineage_of_run, short_hash
from apo_soup.report.rows import stage_sources
from apo_soup.report.run_files import RunFiles
from apo_soup.runs.lineage import short_model_name
from apo_soup.runs.results import score_cell
from apo_soup.weights import value_counts

_UNKNOWN = "not known"
# Types of weights as recipes name them.
_TYPES = {"F64": "float64", "F32": "float32", "BF16": "bfloat16", "F16": "float16"}


@dataclass(frozen=True)
class Fact:
    """A line about the run."""

    name: str
    text: str


@dataclass(frozen=True)
class FirstFigure:
    """A score of the last checkpoint with its interval, and its change with that one's; empty where none is known."""

    title: str
    value: str
    interval: str
    change: str = ""
    change_interval: str = ""
    tone: str = ""


@dataclass(frozen=True)
class FirstScreen:
    """What stands above everything else."""

    title: str
    recipe: str
    facts: list[Fact]
    figures: list[FirstFigure]
    verdict: list[str]


def first_screen(run: RunFiles, recipe: str, asked: list[Claim]) -> FirstScreen:
    """The first screen of a run.

    Args:
        recipe: the recipe's name.
        asked: what SmolLM3's makers say, where the recipe asks for it.
    """
    ends = ends_of_run(run)
    gains = gains_between(*ends, run.titles) if ends else []
    return FirstScreen(run.folder.name, recipe, _facts(run), _figures(run, gains), _verdict(run, gains, asked))


def _facts(run: RunFiles) -> list[Fact]:
    return [
        Fact("Model", _model(run)),
        Fact("Base", _base(run)),
        Fact("Size", _size(run)),
        Fact("Date", _date(run)),
        Fact("Data", _data(run)),
        Fact("Hardware", _hardware(run)),
    ]


def _model(run: RunFiles) -> str:
    """The last model, and what a merge was mixed of."""
    if run.last is None:
        return "none yet"
    parents = lineage_of_run(run).parents.get(run.last, [])
    weights = {parent.weight for parent in parents}
    if len(parents) < 2:
        return run.last
    if len(weights) == 1:
        return f"{run.last}: {len(parents)} models in equal parts"
    mixed = " + ".join(f"{p.name}" if p.weight is None else f"{p.weight:g} {p.name}" for p in parents)
    return f"{run.last}: {mixed}"


def _base(run: RunFiles) -> str:
    base = run.by_name.get("base")
    if base is not None:
        found = base.results["model_hash"]
        kind = "revision" if found.startswith("hub:") else "model"
        return f"{short_model_name(base.results['model'])}, {kind} {short_hash(found)}"
    lineage = lineage_of_run(run)
    outside = [p.name for found in lineage.parents.values() for p in found if p.name not in lineage.parents]
    return outside[0] if outside else _UNKNOWN


def _size(run: RunFiles) -> str:
    """Parameters of the last model, by the headers of its weights, and the type that most of them have."""
    try:
        counts = value_counts(run.folder / (run.last or "merged"))
    except UserError:  # their stage tells of a file that is cut off; the page does without
        counts = {}
    if not counts:
        return _UNKNOWN
    most = max(counts, key=lambda dtype: counts[dtype])
    return f"{count_text(sum(counts.values()))} parameters, {_TYPES.get(most, most)}"


def count_text(count: int) -> str:
    """A large count in three digits.

    >>> count_text(919_424), count_text(134_515_008), count_text(3_075_098_624), count_text(12)
    ('919 k', '135 M', '3.08 B', '12')
    """
    size, unit = float(count), ""
    for larger in (" k", " M", " B", " T"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g}{unit}"


def _date(run: RunFiles) -> str:
    """The day on which the last model was written."""
    manifest = run.manifests.get(run.last or "") or next(iter(reversed(run.manifests.values())), None)
    times = [record["mtime_ns"] for record in (manifest or {}).get("outputs", {}).values()]
    return f"{datetime.fromtimestamp(max(times) / 1e9, UTC):%Y-%m-%d}" if times else _UNKNOWN


def _data(run: RunFiles) -> str:
    parts = []
    for name, sources in stage_sources(run).items():
        rows, tokens = sum(s.kept for s in sources), sum(s.tokens for s in sources)
        what = "pairs" if name.startswith("apo") else "rows"
        stage = "apo" if name.startswith("apo/") else name
        parts.append(f"{stage} {rows:,} {what} ({count_text(tokens)} tokens)")
    return ", ".join(parts) or _UNKNOWN


def _hardware(run: RunFiles) -> str:
    """The machines of the stages, the processes that they ran on, and the time that all of them took."""
    machines = dict.fromkeys(re.sub(r", Python [\d.]+$", "", m["machine"]) for m in run.manifests.values())
    if not machines:
        return _UNKNOWN
    processes = max(m.get("processes") or 1 for m in run.manifests.values())
    on = f", {processes} processes" if processes > 1 else ""
    return f"{'; '.join(machines)}{on}; {clock(seconds_together(run))} in all"


def _figures(run: RunFiles, gains: list[Gain]) -> list[FirstFigure]:
    after = run.by_name.get(run.last or "")
    if after is None:
        return []
    known = {gain.metric: gain for gain in gains}
    figures = []
    for metric in figures_first(after, run.titles):
        score, gain = score_cell(after, metric), known.get(metric)
        value = "-" if score.value is None else f"{score.value:.2f}"
        interval = interval_text(score.low, score.high)
        if gain is None:
            figures.append(FirstFigure(run.titles[metric], value, interval))
            continue
        change = gain.difference
        figures.append(
            FirstFigure(run.titles[metric], value, interval, f"{change.value:+.2f}", change.interval(2), gain.tone)
        )
    return figures


def _verdict(run: RunFiles, gains: list[Gain], asked: list[Claim]) -> list[str]:
    ends = ends_of_run(run)
    if ends is None:
        alone = "One checkpoint was evaluated: there is nothing to compare it with."
        return [alone if run.checkpoints else "Nothing was evaluated yet."]
    before, after = (end.name for end in ends)
    told = [told_in_a_sentence(gains, before, after)]
    known = [claim for claim in asked if claim.value is not None]
    if known:
        shown, reached = sum(c.shown for c in known), sum(c.seen and not c.shown for c in known)
        within = f", {reached} reached with an interval that begins below" if reached else ""
        missed = [claim.name.replace("_", " ") for claim in known if not claim.seen]
        rest = f", not seen: {', '.join(missed)}" if missed else ""
        told.append(f"Claims of SmolLM3's makers: {shown} of {len(known)} shown{within}{rest}.")
    return told
