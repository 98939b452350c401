"""The page's soup beside its members, and the merge beside the soup, as charts."""

from apo_soup.pages.charts import Dot, dot_chart
from apo_soup.report.blocks import PageFigure
from apo_soup.report.gains import gains_between
from apo_soup.report.run_files import RunFiles
from apo_soup.runs.results import score_cell

_SHARES = (0.0, 1.0)


def soup_figure(run: RunFiles) -> PageFigure | None:
    """A row a score from 0 to 1: every member, and the soup of them with its interval."""
    members = [run.by_name[name] for name in run.members if name in run.by_name]
    soup = run.by_name.get("soup")
    if soup is None or not members:
        return None
    rows = []
    for metric, title in run.titles.items():
        found = score_cell(soup, metric)
        values = [(m.name, score_cell(m, metric).value) for m in members]
        if found.value is None or not 0 <= found.value <= 1:
            continue
        dots = [Dot(value, "member", f"{name}: {value:.3f}", small=True) for name, value in values if value is not None]
        interval = (found.low, found.high) if found.low is not None and found.high is not None else None
        rows.append((title, [*dots, Dot(found.value, "s0", f"soup: {found.value:.3f}", interval)]))
    if not rows:
        return None
    legend = [("s0", "soup"), ("member", "members, above it")]
    drawing = dot_chart(rows, "scores of the soup and of its members", legend, _SHARES)
    return PageFigure("Soup beside each member", drawing, "Scores from 0 to 1; bars: 95 %.")


def merge_figure(run: RunFiles) -> PageFigure | None:
    """A row a score: what the merge gained on the soup, with its interval."""
    soup, merged = run.by_name.get("soup"), run.by_name.get("merged")
    if soup is None or merged is None:
        return None
    rows = []
    for gain in gains_between(soup, merged, run.titles):
        change = gain.difference
        if change.low is None or change.high is None or not 0 <= gain.score <= 1:
            continue
        style = {"good": "rises", "bad": "falls"}.get(gain.tone, "within")
        told = f"{change.value:+.3f} ({change.interval(3)})"
        rows.append((gain.title, [Dot(change.value, style, told, (change.low, change.high))]))
    if not rows:
        return None
    legend = [("rises", "better"), ("falls", "worse"), ("within", "within noise")]
    most = max(0.05, *(abs(end) for _, (dot,) in rows for end in dot.interval or ()))
    drawing = dot_chart(rows, "what the merge gained on the soup", legend, (-most, most))
    return PageFigure("Merge beside the soup", drawing, "Gain on the soup on the same items; bars: 95 %.")
