"""Small charts as inline SVG, coloured by the page's own variables so that they follow light and dark."""

import math
from dataclasses import dataclass

from apo_soup.report.html import esc

# Pixels of a drawing, and of the margins around its plot.
WIDTH, HEIGHT = 420, 220
LEFT, BOTTOM, _TOP, _RIGHT = 58, 26, 10, 12
# Colours of the page, `--c0` on; a ninth series begins anew.
COLOURS = 8
# A line needs no more points than it has pixels to stand on.
_MOST_POINTS = 400


@dataclass(frozen=True)
class Scale:
    """A range of values over a range of pixels."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: list[float], start: float, end: float) -> "Scale":
        """The scale whose range just holds the values; a range of one value is widened by 1."""
        low, high = min(values), max(values)
        return cls(low, high, start, end) if high > low else cls(low - 0.5, high + 0.5, start, end)

    def at(self, value: float) -> float:
        """The pixel at which a value stands."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def short_number(value: float) -> str:
    """A number in at most seven characters.

    >>> short_number(0.00012345), short_number(1234.5)
    ('1.2e-04', '1234')
    """
    if 100 <= abs(value) < 1e6:
        return f"{value:.0f}"
    text = f"{value:.3g}"
    return text if len(text) < 7 else f"{value:.1e}"


def series_colour(index: int) -> str:
    """The page's colour of a series, counted from 0."""
    return f"var(--c{index % COLOURS})"


def thinned_line(line: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """A long line as means of neighbouring points, at most 400."""
    step = math.ceil(len(line) / _MOST_POINTS)
    if step <= 1:
        return line
    parts = [line[i : i + step] for i in range(0, len(line), step)]
    return [(sum(x for x, _ in p) / len(p), sum(y for _, y in p) / len(p)) for p in parts]


def line_chart(
    lines: dict[str, list[tuple[float, float]]],
    unit: str = "step",
    bands: dict[str, list[tuple[float, float, float]]] | None = None,
) -> str:
    """Lines by name over shared axes, a legend below the plot.

    Args:
        unit: what the horizontal axis counts.
        bands: intervals (x, low, high) of some of the lines, drawn as bars.
    """
    lines = {name: thinned_line([p for p in line if math.isfinite(p[1])]) for name, line in lines.items() if line}
    lines = {name: line for name, line in lines.items() if line}
    points = [p for line in lines.values() for p in line]
    if not points:
        return _svg([_axes()], HEIGHT, "no finite value")
    spread = [v for band in (bands or {}).values() for _, low, high in band for v in (low, high)]
    across = Scale.over([p[0] for p in points], LEFT, WIDTH - _RIGHT)
    down = Scale.over([p[1] for p in points] + spread, HEIGHT - BOTTOM, _TOP)
    parts = [_axes()]
    for share in (0, 0.5, 1):
        value = down.low + share * (down.high - down.low)
        parts.append(
            f'<text x="{LEFT - 6}" y="{down.at(value) + 4:.1f}" text-anchor="end">{short_number(value)}</text>'
        )
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 8}">{short_number(across.low)}</text>')
    parts.append(
        f'<text x="{WIDTH - _RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{esc(unit)} {short_number(across.high)}</text>'
    )
    for index, (name, line) in enumerate(lines.items()):
        for x, low, high in (bands or {}).get(name, []):
            parts.append(
                f'<path d="M{across.at(x):.1f} {down.at(low):.1f}V{down.at(high):.1f}" stroke="{series_colour(index)}" '
                'stroke-width="1" opacity="0.5"/>'
            )
        path = " ".join(f"{across.at(x):.1f},{down.at(y):.1f}" for x, y in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{series_colour(index)}" stroke-width="1.6"/>')
    marks, height = legend(list(lines), HEIGHT + 4)
    return _svg(parts + marks, height, ", ".join(lines))


def legend(names: list[str], top: float) -> tuple[list[str], float]:
    """Colour and name of every line, wrapped to the drawing's width; and where it ends."""
    parts, x, y = [], float(LEFT), top
    for index, name in enumerate(names):
        size = 24 + 6.4 * len(name)
        if x + size > WIDTH - _RIGHT and x > LEFT:
            x, y = float(LEFT), y + 16
        parts.append(f'<rect x="{x:.0f}" y="{y:.0f}" width="10" height="10" fill="{series_colour(index)}"/>')
        parts.append(f'<text x="{x + 14:.0f}" y="{y + 9:.0f}">{esc(name)}</text>')
        x += size
    return parts, y + 16


def bar_chart(values: list[tuple[str, float, float, float]]) -> str:
    """Shares from 0 to 1 with their intervals: (name, value, low, high) a bar."""
    step = (WIDTH - LEFT - _RIGHT) / max(1, len(values))
    longest = max((6.4 * len(name) for name, *_ in values), default=0)
    down = Scale(0, 1, HEIGHT - BOTTOM, _TOP)
    parts = [_axes()]
    for share in (0, 0.5, 1):
        parts.append(f'<text x="{LEFT - 6}" y="{down.at(share) + 4:.1f}" text-anchor="end">{share:g}</text>')
    for index, (name, value, low, high) in enumerate(values):
        x = LEFT + index * step + step * 0.15
        middle, width, height = x + step * 0.35, step * 0.7, down.at(0) - down.at(value)
        parts.append(
            f'<rect x="{x:.1f}" y="{down.at(value):.1f}" width="{width:.1f}" height="{height:.1f}" fill="var(--c0)"/>'
            + _whisker(middle, low, high, down)
            + _bar_label(name, middle, longest > step)
        )
    return _svg(parts, HEIGHT + (0.8 * longest if longest > step else 0), "bars")


def _whisker(x: float, low: float | None, high: float | None, down: Scale) -> str:
    """An interval as a line over a bar; nothing where none is known."""
    if low is None or high is None:
        return ""
    return f'<path d="M{x:.1f} {down.at(low):.1f}V{down.at(high):.1f}" stroke="var(--ink)" stroke-width="1.5"/>'


def _bar_label(name: str, middle: float, turned: bool) -> str:
    """A bar's name below it, turned where there is no room for it to lie."""
    if not turned:
        return f'<text x="{middle:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{esc(name)}</text>'
    x, y = middle + 4, HEIGHT - BOTTOM + 8
    return f'<text x="{x:.1f}" y="{y}" text-anchor="end" transform="rotate(-60 {x:.1f} {y})">{esc(name)}</text>'


def heat_map(title: str, columns: list[str], rows: list[str], cells: dict[tuple[str, str], float | None]) -> str:
    """Shares from 0 to 1 by (column, row) as a map; a darker cell is a larger share."""
    left, top, high = 60, 24, 24
    width = (WIDTH - left - _RIGHT) / max(1, len(columns))
    parts = [f'<text x="{left}" y="14">{esc(title)}</text>']
    for y, row in enumerate(rows):
        parts.append(f'<text x="{left - 6}" y="{top + y * high + 16}" text-anchor="end">{esc(row)}</text>')
        for x, column in enumerate(columns):
            value = cells.get((column, row))
            if value is None:
                continue
            ink = "var(--paper)" if value > 0.55 else "var(--ink)"
            parts.append(
                f'<rect x="{left + x * width + 1:.1f}" y="{top + y * high + 1}" width="{width - 2:.1f}" '
                f'height="{high - 2}" fill="rgba(var(--heat), {0.08 + 0.92 * value:.2f})"/>'
                f'<text x="{left + (x + 0.5) * width:.1f}" y="{top + y * high + 16}" text-anchor="middle" '
                f'style="fill:{ink}">{value:.2f}</text>'
            )
    bottom = top + len(rows) * high
    for x, column in enumerate(columns):
        middle = left + (x + 0.5) * width
        parts.append(f'<text x="{middle:.1f}" y="{bottom + 14}" text-anchor="middle">{esc(column)}</text>')
    return _svg(parts, bottom + 20, title)


def stacked_bars(rows: list[tuple[str, list[tuple[str, float]]]], unit: str) -> str:
    """A bar a row, cut into named parts whose lengths are the values; names share one legend."""
    names = list(dict.fromkeys(name for _, parts in rows for name, _ in parts))
    most = max(sum(v for _, v in parts) for _, parts in rows) or 1
    left, high = 170, 22
    drawn = []
    for y, (label, parts) in enumerate(rows):
        drawn.append(f'<text x="{left - 6}" y="{y * high + 15}" text-anchor="end">{esc(label)}</text>')
        x = float(left)
        for name, value in parts:
            width = value / most * (WIDTH - left - _RIGHT)
            told = f"{esc(name)}: {value:,.0f} {esc(unit)}"
            drawn.append(
                f'<g><title>{told}</title><rect x="{x:.1f}" y="{y * high + 3}" width="{max(0.0, width):.1f}" '
                f'height="{high - 6}" fill="{series_colour(names.index(name))}"/></g>'
            )
            x += width
    marks, height = legend(names, len(rows) * high + 8)
    return _svg(drawn + marks, height, unit)


def _axes() -> str:
    corner = f"M{LEFT} {_TOP}V{HEIGHT - BOTTOM}H{WIDTH - _RIGHT}"
    return f'<path d="{corner}" fill="none" stroke="var(--line)" stroke-width="1"/>'


def _svg(parts: list[str], height: float, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{esc(label)}">{"".join(parts)}</svg>'
