"""The page's sweep of the merge weight."""

from pathlib import Path

from apo_soup.errors import read_json
from apo_soup.report.charts import line_chart
from apo_soup.report.html import chart_grid, esc, figure, html_table


def sweep_section(run: Path) -> str:
    """Scores over the weight of the merge's first model, and what they support."""
    file = run / "sweep" / "sweep.json"
    if not file.is_file():
        return ""
    sweep = read_json(file, file.parent, "remove the folder and run the sweep again")
    first, names = sweep["models"][0], [sweep["metric"], *sweep["guardrails"]]
    figures = []
    for name in names:
        alone = next(p["scores"][name] for p in sweep["points"] if p["weight"] == 1)
        line = {name: [(p["weight"], p["scores"][name]) for p in sweep["points"]]}
        # Differences are gains: for a loss they point down.
        sign = -1 if sweep.get("better", {}).get(name) == "lower" else 1
        bounds = {p["weight"]: sorted(sign * p["differences"][name][end] for end in ("low", "high"))
                  for p in sweep["points"] if p["differences"][name]["low"] is not None}  # fmt: skip
        band = {name: [(weight, alone + low, alone + high) for weight, (low, high) in bounds.items()]}
        figures.append(figure(line_chart(line, f"weight of {first}", band), f"{name}; bars: 95 % of the difference"))
    rows = []
    for p in sweep["points"]:
        cells = [f"{p['weight']:g}"]
        for name in names:
            d = p["differences"][name]
            interval = "" if d["low"] is None else f"{d['low']:+.3f} to {d['high']:+.3f}"
            cells.append(f"{p['scores'][name]:.3f}<small>{interval}</small>")
        rows.append([*cells, esc(", ".join(p["fallen"]) or "-")])
    note = f"<p>Below each score is the 95 % interval of its gain on {esc(first)} alone; plus is better.</p>"
    header = [f"weight of {first}", *names, "guardrails fallen"]
    return f"{chart_grid(figures)}{html_table(header, rows)}{note}<pre>{esc(sweep['told'])}</pre>"
