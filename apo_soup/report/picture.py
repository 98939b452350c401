"""The pipeline of a run as one SVG: a box a checkpoint, its scores inside, arrows from parent to child."""

import html

from apo_soup.runs.results import Stage, cell, columns, short

BOX, ROW, GAP, TOP = 186, 17, 40, 16
STYLE = (
    "<style>text{font:12px system-ui,sans-serif;fill:#1c2430}.soft{fill:#5b6675}.name{font-weight:700;font-size:14px}"
    "rect{fill:#f4f6f9;stroke:#c5ccd6}path{fill:none;stroke:#8a95a5;stroke-width:1.5}"
    "@media (prefers-color-scheme:dark){text{fill:#e6e9ee}.soft{fill:#9aa5b4}rect{fill:#1c222a;stroke:#46515f}}</style>"
)


def picture(stages: list[Stage]) -> str:
    """Checkpoints from left to right; members stand in one box with the range of their scores."""
    names = columns(stages)
    boxes: dict[str, list[Stage]] = {}
    for stage in stages:
        boxes.setdefault(stage.name.split("/")[0], []).append(stage)
    height = TOP + 34 + ROW * len(names)
    parts = [STYLE]
    for number, (name, members) in enumerate(boxes.items()):
        left = 10 + number * (BOX + GAP)
        title = name if len(members) == 1 else f"{name} 1..{len(members)}"
        parts.append(f'<rect x="{left}" y="{TOP}" width="{BOX}" height="{height - TOP}" rx="8"/>')
        parts.append(f'<text class="name" x="{left + 10}" y="{TOP + 20}">{html.escape(title)}</text>')
        for line, metric in enumerate(names):
            y = TOP + 42 + line * ROW
            parts.append(f'<text class="soft" x="{left + 10}" y="{y}">{html.escape(short(metric))}</text>')
            parts.append(f'<text x="{left + BOX - 10}" y="{y}" text-anchor="end">{scores(members, metric)}</text>')
        if number:
            middle = TOP + 14
            parts.append(f'<path d="M{left - GAP + 4} {middle}H{left - 8}m-6 -5l6 5l-6 5"/>')
    order = list(boxes)
    width = 20 + len(boxes) * BOX + (len(boxes) - 1) * GAP
    if "mid" in order and "merged" in order:
        start = 10 + order.index("mid") * (BOX + GAP) + BOX / 2
        end = 10 + order.index("merged") * (BOX + GAP) + BOX / 2
        low, middle = height + 26, (start + end) / 2
        parts.append(f'<path d="M{start} {height + 4}V{low}H{end}V{height + 8}m-5 6l5 -6l5 6"/>')
        parts.append(f'<text class="soft" x="{middle}" y="{low - 6}" text-anchor="middle">mixed in by the merge</text>')
    body = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height + 36}" width="{width}" '
        f'role="img" aria-label="pipeline with scores">{body}</svg>\n'
    )


def scores(members: list[Stage], metric: str) -> str:
    """One score, or the range of several members."""
    values = [c.value for c in (cell(m, metric) for m in members) if c.value is not None]
    if not values:
        return "-"
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"
