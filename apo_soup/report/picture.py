"""The pipeline of a run as one SVG: a box a checkpoint, its scores inside, arrows from parent to child."""

from apo_soup.report.html import esc
from apo_soup.runs.results import EvaluatedCheckpoint, column_titles, headline_metrics, score_cell

# Pixels: width of a box, height of a line, room between boxes and above them.
_BOX, _ROW, _GAP, _TOP = 186, 17, 40, 16
_STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#1c2430}.soft{fill:#5b6675}.name{font-weight:700;font-size:14px}"
    "rect{fill:#f4f6f9;stroke:#c5ccd6}path{fill:none;stroke:#8a95a5;stroke-width:1.5}"
    "@media (prefers-color-scheme:dark){text{fill:#e6e9ee}.soft{fill:#9aa5b4}rect{fill:#1c222a;stroke:#46515f}}</style>"
)


def pipeline_picture(checkpoints: list[EvaluatedCheckpoint]) -> str:
    """Checkpoints from left to right; members stand in one box with the range of their scores."""
    titles = column_titles(headline_metrics(checkpoints))
    boxes: dict[str, list[EvaluatedCheckpoint]] = {}
    for checkpoint in checkpoints:
        boxes.setdefault(checkpoint.name.split("/")[0], []).append(checkpoint)
    height = _TOP + 34 + _ROW * len(titles)
    parts = [_STYLE]
    for number, (name, members) in enumerate(boxes.items()):
        left = 10 + number * (_BOX + _GAP)
        title = name if len(members) == 1 else f"{name} 1..{len(members)}"
        parts.append(f'<rect x="{left}" y="{_TOP}" width="{_BOX}" height="{height - _TOP}" rx="8"/>')
        parts.append(f'<text class="name" x="{left + 10}" y="{_TOP + 20}">{esc(title)}</text>')
        for line, (metric, label) in enumerate(titles.items()):
            y = _TOP + 42 + line * _ROW
            parts.append(f'<text class="soft" x="{left + 10}" y="{y}">{esc(label)}</text>')
            parts.append(
                f'<text x="{left + _BOX - 10}" y="{y}" text-anchor="end">{_score_range(members, metric)}</text>'
            )
        if number:
            arrow = _TOP + 14
            parts.append(f'<path d="M{left - _GAP + 4} {arrow}H{left - 8}m-6 -5l6 5l-6 5"/>')
    order = list(boxes)
    width = 20 + len(boxes) * _BOX + (len(boxes) - 1) * _GAP
    if "mid" in order and "merged" in order:
        start = 10 + order.index("mid") * (_BOX + _GAP) + _BOX / 2
        end = 10 + order.index("merged") * (_BOX + _GAP) + _BOX / 2
        low, middle = height + 26, (start + end) / 2
        parts.append(f'<path d="M{start} {height + 4}V{low}H{end}V{height + 8}m-5 6l5 -6l5 6"/>')
        parts.append(f'<text class="soft" x="{middle}" y="{low - 6}" text-anchor="middle">mixed in by the merge</text>')
    body = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 36}" width="{width}" '
        f'role="img" aria-label="pipeline with scores">{body}</svg>\n'
    )


def _score_range(members: list[EvaluatedCheckpoint], metric: str) -> str:
    """One score, or the range of several members."""
    values = [c.value for c in (score_cell(m, metric) for m in members) if c.value is not None]
    if not values:
        return "-"
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"
