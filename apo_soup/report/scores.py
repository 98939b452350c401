"""The page's scores: what SmolLM3's makers reported, asked of this run; verdicts; what each checkpoint can do."""

from apo_soup.report.claims import run_claims
from apo_soup.report.html import esc, html_table
from apo_soup.report.reported import gain_between, reported_findings
from apo_soup.runs.results import EvaluatedCheckpoint, column_titles, headline_metrics, parent_checkpoint, score_cell


def findings_section(stages: list[EvaluatedCheckpoint]) -> str:
    """What SmolLM3's makers reported, with this run's own scores, gain and verdict beside each statement."""
    rows = []
    for finding in reported_findings(stages):
        tone = {"seen": "good", "the opposite is seen": "bad"}.get(finding.verdict, "")
        gain = finding.gain
        rows.append([
            esc(finding.statement),
            f"<code>{esc(finding.metric)}</code><small>{esc(finding.before)} to {esc(finding.after)}</small>",
            f"{finding.scores[0]:.3f} to {finding.scores[1]:.3f}",
            f"{gain.value:+.3f}<small>{gain.interval(3)}, {gain.n} items</small>",
            f'<span class="verdict {tone}">{esc(finding.verdict)}</span>',
        ])  # fmt: skip
    note = (
        "<p>Each line compares two checkpoints on the same items, with a 95 % interval: Newcombe's for shares, that of "
        "a paired bootstrap elsewhere. It leaves out 0 only where a test of single items agrees.</p>"
    )
    header = ["reported", "measured by", "scores", "gain", "here"]
    return html_table(header, rows, prose=True) + note if rows else ""


def claims_section(stages: list[EvaluatedCheckpoint]) -> str:
    """The verdicts that `report --json` gives to programs, in words."""
    if not stages:
        return ""
    rows = []
    for claim in run_claims(stages):
        interval = "" if claim.low is None else f"<small>{claim.low:.3f} to {claim.high:.3f}</small>"
        rows.append([
            f"<code>{esc(claim.name)}</code>",
            esc(claim.told),
            "-" if claim.value is None else f"{claim.value:.3f}{interval}",
            f"{claim.least:g}",
            f'<span class="verdict {"good" if claim.shown else ""}">{esc(claim.verdict)}</span>',
        ])  # fmt: skip
    note = (
        "<p>A figure of several tasks is the lowest of them. Where the interval begins below, the figure is at least "
        "what is asked, but the noise of its items leaves room for less.</p>"
    )
    return html_table(["claim", "figure is", "figure", "asked", "here"], rows, prose=True) + note


def scores_section(stages: list[EvaluatedCheckpoint]) -> str:
    """Scores with intervals; a change from the parent is marked only when it is beyond noise on the same items."""
    titles = column_titles(headline_metrics(stages))
    if not stages:
        return ""
    by_name = {s.name: s for s in stages}
    rows = []
    for stage in stages:
        before = by_name.get(parent_checkpoint(stage.name, list(by_name)) or "")
        row = [f"<b>{esc(stage.name)}</b>"]
        for name in titles:
            now = score_cell(stage, name)
            if now.value is None:
                row.append("-")
                continue
            gain = gain_between(before, stage, name) if before else None
            tone, sign = "", ""
            if gain is not None and gain.beyond_noise:
                tone, sign = ("good", " ▲") if gain.value > 0 else ("bad", " ▼")
            interval = f"<small>{now.low:.2f} to {now.high:.2f}</small>" if now.low is not None else ""
            row.append(f'<span class="{tone}">{now.value:.3f}{sign}</span>{interval}')
        rows.append(row)
    last = stages[-1].results["metrics"]
    counts = ", ".join(f"{title}: {last[n]['n']}" for n, title in titles.items() if n in last)
    note = (
        f"<p>Below each score its 95 % interval. Items: {esc(counts)}. ▲ and ▼ mark what is better or worse than the "
        "checkpoint it was made from, beyond noise on the same items.</p>"
    )
    told = dict.fromkeys(n for s in stages for task in s.results["tasks"].values() for n in task.get("notes", []))
    notes = "".join(f"<p>{esc(one)}</p>" for one in told)
    return html_table(["stage", *titles.values()], rows) + note + notes
