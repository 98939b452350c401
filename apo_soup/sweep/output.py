"""What a walk says: a table of its points, and a picture of what they gain."""

from collections.abc import Mapping, Sequence

from apo_soup.pages.charts import Dot, dot_chart
from apo_soup.pages.drawing import series_style, svg_file
from apo_soup.sweep.choose import Label, WalkedPoint, Yardstick
from apo_soup.tables import text_table


def points_table(
    points: Sequence[WalkedPoint[Label]],
    cells: Sequence[list[str]],
    titles: list[str],
    yardstick: Yardstick,
    against: str,
) -> str:
    """A line a point: what it is, its scores, and the difference from what all are compared with and its interval.

    Args:
        cells: what stands before a point's scores, below `titles`.
        against: the name of what all are compared with.
    """
    rows = [
        [*before, *(_cell(point, name) for name in yardstick.names), _fallen(point)]
        for point, before in zip(points, cells, strict=True)
    ]
    table = text_table([*titles, *yardstick.names, "guardrails fallen"], rows)
    return (
        f"{table}\nin brackets the 95 % interval of the gain on {against}, plus being better; * marks what is beyond "
        "noise"
    )


def _fallen(point: WalkedPoint[Label]) -> str:
    return ", ".join(point.fallen) or ("-" if point.failed is None else "failed")


def _cell(point: WalkedPoint[Label], name: str) -> str:
    difference = point.differences.get(name)
    if difference is None:
        return "not measured"
    return f"{point.scores[name]:.3f} ({difference.interval(2)}){'*' if difference.beyond_noise else ''}"


def gains_chart(
    points: Sequence[WalkedPoint[Label]],
    names: Sequence[str],
    of_names: str,
    yardstick: Yardstick,
    titles: Mapping[str, str],
    against: str,
) -> str:
    """What each point gains on what all are compared with, with 95 % intervals, as SVG; guardrails are smaller dots.

    Args:
        names: of the points.
        of_names: what these are made of, which stands above them.
        titles: of the yardstick's scores.
    """
    rows: list[tuple[str, list[Dot]]] = [(of_names, [])]
    for point, name in zip(points, names, strict=True):
        dots = []
        for number, metric in enumerate(yardstick.names):
            difference = point.differences.get(metric)
            if difference is None:
                continue
            ends = None if difference.low is None or difference.high is None else (difference.low, difference.high)
            told = f"{titles[metric]}: {difference.value:+.3f} ({difference.interval(3)})"
            small = metric != yardstick.metric
            dots.append(Dot(difference.value, series_style(number), told, None if small else ends, small))
        rows.append((name if point.failed is None else f"{name} (failed)", dots))
    legend = [(series_style(number), titles[metric]) for number, metric in enumerate(yardstick.names)]
    label = f"gain of each point on {against}; the bar is the 95 % interval of {titles[yardstick.metric]}"
    return svg_file(dot_chart(rows, label, legend, (0.0, 0.0)))
