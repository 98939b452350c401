"""The page's part that a recipe asks for: what SmolLM3's makers reported of their stages, asked of this run."""

from apo_soup.report.blocks import Folded, PageTable, Prose, Section, TableCell, cells, interval_text
from apo_soup.report.claims import Claim
from apo_soup.report.reported import reported_findings
from apo_soup.report.run_files import RunFiles

_TONES = {"seen": "good", "the opposite is seen": "bad"}


def makers_section(run: RunFiles, claims: list[Claim]) -> Section:
    """What was reported, with this run's scores, gain and verdict; below it, folded, the claims that programs get."""
    rows = []
    for finding in reported_findings(run.checkpoints):
        gain = finding.gain
        rows.append([
            TableCell(finding.statement),
            TableCell(finding.verdict, tone=_TONES.get(finding.verdict, "")),
            TableCell(f"{gain.value:+.3f}", f"{gain.interval(3)}, {gain.n} items"),
            TableCell(f"{finding.scores[0]:.3f} to {finding.scores[1]:.3f}", f"{finding.before} to {finding.after}"),
            TableCell(run.titles.get(finding.metric, finding.metric)),
        ])  # fmt: skip
    if not rows:
        return Section("What SmolLM3's makers reported")
    note = (
        "Each line compares two checkpoints on the same items, with a 95 % interval: Newcombe's for shares, that of a "
        "paired bootstrap elsewhere. It leaves out 0 only where a test of single items agrees. Of modes over turns the "
        "makers reported 70, 27 and 6 % of think turns kept in turns 1, 2 and 3 before they trained on IFThink rows, "
        "and 89, 91 and 91 % after."
    )
    header = cells("reported", "here", "gain", "scores", "measured by")
    asked = Folded("The same as figures, with the least that is asked of each", [claims_table(claims)])
    table = PageTable(header, rows, verdicts=True, prose=True)
    return Section("What SmolLM3's makers reported", [table, asked, Folded("How they are compared", [Prose(note)])])


def claims_table(claims: list[Claim]) -> PageTable:
    """The verdicts that `report --json` gives to programs, in words."""
    rows = []
    for claim in claims:
        value = "-" if claim.value is None else f"{claim.value:.3f}"
        rows.append([
            TableCell(claim.name),
            TableCell(claim.verdict, tone="good" if claim.shown else ""),
            TableCell(value, interval_text(claim.low, claim.high, 3)),
            TableCell(f"{claim.least:g}"),
            TableCell(claim.told),
        ])  # fmt: skip
    note = (
        "A figure of several tasks is the lowest of them. Where the interval begins below, the figure is at least what "
        "is asked, but the noise of its items leaves room for less."
    )
    return PageTable(cells("claim", "here", "figure", "asked", "the figure is"), rows, note, verdicts=True, prose=True)
