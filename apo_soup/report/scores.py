"""The page's scores: a row a checkpoint, with what became better or worse than the one it was made from."""

from apo_soup.report.blocks import Folded, PageTable, Prose, Section, TableCell, interval_text
from apo_soup.report.gains import Gain, gains_between
from apo_soup.report.run_files import RunFiles
from apo_soup.runs.machine_paths import machine_places, without_paths
from apo_soup.runs.results import EvaluatedCheckpoint, parent_checkpoint, score_cell

_MARKS = {"good": " ▲", "bad": " ▼", "": ""}


def scores_section(run: RunFiles) -> Section:
    """Scores with intervals; a change from the parent is marked only when it is beyond noise on the same items."""
    if not run.checkpoints:
        return Section("Stages")
    rows = []
    for stage in run.checkpoints:
        parent = run.by_name.get(parent_checkpoint(stage.name, list(run.by_name)) or "")
        gains = {} if parent is None else {g.metric: g for g in gains_between(parent, stage, run.titles)}
        scores = [_score(stage, metric, gains.get(metric)) for metric in run.titles]
        rows.append([TableCell(stage.name), _verdict(list(gains.values()), parent), *scores])
    last = run.checkpoints[-1].results["metrics"]
    header = [
        TableCell(title, f"{last[metric]['n']:,} items" if metric in last else "")
        for metric, title in run.titles.items()
    ]
    note = (
        "Below each score its 95 % interval. ▲ and ▼: better or worse than the checkpoint that it was made from, "
        "beyond noise on the same items."
    )
    places = machine_places(run.folder)
    told = dict.fromkeys(
        n for s in run.checkpoints for task in s.results["tasks"].values() for n in task.get("notes") or []
    )
    notes = (
        [Folded(f"What the tasks say ({len(told)})", [Prose(without_paths(one, places)) for one in told])]
        if told
        else []
    )
    table = PageTable([TableCell("stage"), TableCell("beside its parent"), *header], rows, note, verdicts=True)
    return Section("Stages", [table, *notes])


def _score(stage: EvaluatedCheckpoint, metric: str, gain: Gain | None) -> TableCell:
    now = score_cell(stage, metric)
    if now.value is None:
        return TableCell("-")
    tone = gain.tone if gain else ""
    return TableCell(f"{now.value:.3f}{_MARKS[tone]}", interval_text(now.low, now.high), tone)


def _verdict(gains: list[Gain], parent: EvaluatedCheckpoint | None) -> TableCell:
    """Counts of better and worse scores, and which are worse."""
    if parent is None:
        return TableCell("-")
    better, worse = ([g.title for g in gains if g.tone == tone] for tone in ("good", "bad"))
    if not better and not worse:
        return TableCell("within noise", f"of {parent.name}")
    tone = "good" if not worse else "bad" if not better else ""
    small = f"than {parent.name}" + (f"; worse: {', '.join(worse)}" if worse else "")
    counts = [*([f"{len(better)} better"] if better else []), *([f"{len(worse)} worse"] if worse else [])]
    return TableCell(", ".join(counts), small, tone)
