"""Small charts as inline SVG, coloured by the page's own variables so that they follow light and dark."""

import html

WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 420, 220, 48, 26, 10, 10


def _scale(values: list[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _number(value: float) -> str:
    return f"{value:.3g}"


def curves(lines: dict[str, list[tuple[float, float]]], unit: str = "step") -> str:
    """Lines by name over shared axes, a legend below the plot; `unit` names what the horizontal axis counts."""
    points = [p for line in lines.values() for p in line]
    x_low, x_high = _scale([p[0] for p in points])
    y_low, y_high = _scale([p[1] for p in points])

    def at(x: float, y: float) -> str:
        across = LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)
        down = HEIGHT - BOTTOM - (y - y_low) / (y_high - y_low) * (HEIGHT - BOTTOM - TOP)
        return f"{across:.1f},{down:.1f}"

    parts = [_axes()]
    for share in (0, 0.5, 1):
        y = HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_number(y_low + share * (y_high - y_low))}</text>'
        )
    parts.append(f'<text x="{LEFT}" y="{HEIGHT - 8}">{_number(x_low)}</text>')
    parts.append(
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{html.escape(unit)} {_number(x_high)}</text>'
    )
    for number, (name, line) in enumerate(lines.items()):
        colour = f"var(--c{number % 5})"
        path = " ".join(at(*p) for p in line)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        across = LEFT + 10 + number * 74
        parts.append(f'<rect x="{across}" y="{HEIGHT + 4}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{across + 14}" y="{HEIGHT + 13}">{html.escape(name)}</text>')
    return _svg(parts, HEIGHT + 20, "curve")


def bars(values: list[tuple[str, float, float, float]]) -> str:
    """Shares from 0 to 1 with their intervals: (name, value, low, high) a bar."""
    step = (WIDTH - LEFT - RIGHT) / max(1, len(values))
    parts = [_axes()]

    def down(share: float) -> float:
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)

    for share in (0, 0.5, 1):
        parts.append(f'<text x="{LEFT - 6}" y="{down(share) + 4:.1f}" text-anchor="end">{share:g}</text>')
    for number, (name, value, low, high) in enumerate(values):
        x = LEFT + number * step + step * 0.15
        middle, width, height = x + step * 0.35, step * 0.7, down(0) - down(value)
        bar = f'<rect x="{x:.1f}" y="{down(value):.1f}" width="{width:.1f}" height="{height:.1f}" fill="var(--c0)"/>'
        spread = f'<path d="M{middle:.1f} {down(low):.1f}V{down(high):.1f}" stroke="var(--ink)" stroke-width="1.5"/>'
        parts += [bar, spread]
        parts.append(f'<text x="{middle:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{html.escape(name)}</text>')
    return _svg(parts, HEIGHT, "bars")


def _axes() -> str:
    return (
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="var(--line)" stroke-width="1"/>'
    )


def _svg(parts: list[str], height: int, label: str) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">{"".join(parts)}</svg>'
