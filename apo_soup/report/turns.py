"""The page's modes over turns: how many conversations keep their mode at each turn."""

from apo_soup.report.html import esc, html_table
from apo_soup.runs.results import EvaluatedCheckpoint, score_cell


def turns_section(stages: list[EvaluatedCheckpoint]) -> str:
    """A row a checkpoint and kind of conversation, a column a turn, with intervals over conversations."""
    rows: list[list[str]] = []
    last = 0
    for stage in stages:
        for task in (t for t in stage.results["tasks"].values() if t["kind"] == "turns"):
            turns: dict[str, dict[int, str]] = {}
            for name in task["metrics"]:
                label, marked, turn = name.rpartition("/turn_")
                if marked and turn.isdigit():
                    turns.setdefault(label, {})[int(turn)] = name
                    last = max(last, int(turn))
            for label, by_turn in turns.items():
                cells = [_share(stage, by_turn.get(turn)) for turn in range(1, last + 1)]
                n = max(stage.results["metrics"][name]["n"] for name in by_turn.values())
                rows.append([f"<b>{esc(stage.name)}</b>", esc(label.replace("_", " ")), str(n), *cells])
    if not rows:
        return ""
    rows = [row + [""] * (last + 3 - len(row)) for row in rows]
    note = (
        "<p>The share of conversations whose answer keeps the mode that is asked for at that turn, behind the model's "
        "own answers; below it the 95 % interval over conversations. Where the mode changes, turns before the "
        "change are left out. SmolLM3's makers reported 70, 27 and 6 % of think turns kept in turns 1, 2 and 3 before "
        "they trained on IFThink rows, and 89, 91 and 91 % after.</p>"
    )
    header = ["stage", "conversations", "n", *(f"turn {turn}" for turn in range(1, last + 1))]
    return html_table(header, rows) + note


def _share(stage: EvaluatedCheckpoint, name: str | None) -> str:
    cell = score_cell(stage, name) if name else None
    if cell is None or cell.value is None:
        return ""
    interval = f"<small>{cell.low:.2f} to {cell.high:.2f}</small>" if cell.low is not None else ""
    return f"{cell.value:.2f}{interval}"
