"""One self-contained `report.html` of a run: no script, no request, light and dark, made to print.

Every part reads what the stages left on disk (manifests, trainer states, evaluation results) and says "not run" where
a stage left nothing.
"""

import html
import json
from pathlib import Path
from typing import Any

from pipeline.chart import bars, curves
from pipeline.members import member_folders
from pipeline.picture import picture
from pipeline.stage import read_manifest, write_json
from pipeline.table import Stage, cell, columns, evaluated, place, short

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #d7dce3; --paper: #ffffff; --tint: #f4f6f9;
  --c0: #1f6fb2; --c1: #c2571a; --c2: #2b8a4b; --c3: #8a4fb0; --c4: #a8327a; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b4; --line: #36404d; --paper: #14181e;
  --tint: #1c222a; --c0: #6db3ee; --c1: #f0955c; --c2: #6cc98b; --c3: #c394e6; --c4: #ea83bd; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 72rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.7rem; margin: 0 0 .2rem; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; }
p, figcaption { color: var(--soft); max-width: 46rem; } .wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; } th, td { padding: .35rem .7rem; text-align: left;
  border-bottom: 1px solid var(--line); vertical-align: top; } th { color: var(--soft); font-weight: 600; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; } small { color: var(--soft); display: block; }
ol.lineage { list-style: none; display: flex; flex-wrap: wrap; gap: .5rem 1.6rem; padding: 0; }
ol.lineage li { background: var(--tint); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem; }
code { font-size: .85em; overflow-wrap: anywhere; } pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0;
  font-size: .8rem; background: var(--tint); padding: .5rem; border-radius: .4rem; }
figure { margin: 0; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(20rem, 100%), 1fr)); gap: 1rem; }
svg { width: 100%; height: auto; } svg text { fill: var(--soft); font: 11px system-ui, sans-serif; }
.good { color: var(--c2); } .bad { color: var(--c1); }
@media print { body { max-width: none; } h2 { break-after: avoid; } figure, tr { break-inside: avoid; } }
"""


def write_report(recipe: Path, run: Path) -> Path:
    """Write `report.html`, `pipeline.svg` and `table.json` into the run folder; returns the page's path."""
    stages = evaluated(run)
    parts = [
        f"<h1>{esc(run.name)}</h1><p>Base to merged, one page. Recipe <code>{esc(str(recipe))}</code>.</p>",
        section("Lineage", lineage(run)),
        section("What each checkpoint can do", stage_table(stages)),
        section("Recall by context length", recall(stages)),
        section("Training", training(run)),
        section("The merge weight", sweep_part(run)),
        section("Data", data_table(run)),
        section("What each stage cost", cost_table(run)),
        section("Preference pairs made by the pipeline", pairs_part(run)),
        section("The same questions, every stage, both modes", samples(stages)),
        section("Versions", versions_part(run)),
    ]
    title = f"apo-soup: {run.name}"
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{esc(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body>{''.join(parts)}</body></html>\n"
    )
    (run / "pipeline.svg").write_text(picture(stages), encoding="utf-8")
    path = run / "report.html"
    path.write_text(page, encoding="utf-8")
    names = columns(stages)
    write_json(run / "table.json", {s.name: {n: vars(cell(s, n)) for n in names} for s in stages})
    return path


def esc(text: Any) -> str:
    return html.escape(str(text))


def section(title: str, body: str) -> str:
    return f"<section><h2>{esc(title)}</h2>{body or '<p>Not run.</p>'}</section>"


def table(header: list[str], rows: list[list[str]]) -> str:
    """An HTML table; cells are HTML already."""
    head = "".join(f"<th>{esc(h)}</th>" for h in header)
    body = "".join("<tr>" + "".join(f'<td class="number">{c}</td>' for c in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def manifests(run: Path) -> list[tuple[str, dict[str, Any]]]:
    """Name and manifest of every stage folder of a run, in pipeline order."""
    found = []
    for folder in [run / n for n in ("data", "mid", "sft", "pairs")] + member_folders(run):
        manifest = read_manifest(folder)
        if manifest:
            found.append((manifest["stage"], manifest))
    found += [(n, m) for n in ("soup", "merged") if (m := read_manifest(run / n))]
    return found


def lineage(run: Path) -> str:
    """Each model folder with its weights' hash and its parents."""
    items = []
    for name, manifest in manifests(run):
        weights = manifest["outputs"].get("model.safetensors", {}).get("sha256")
        if not weights:
            continue
        parents = manifest["metrics"].get("models") or [manifest.get("ran_with", {}).get("model_name_or_path")]
        told = f"weights {weights[:12]}<br>from {esc(', '.join(map(str, parents)))}"
        items.append(f"<li><b>{esc(name)}</b> <small>{told}</small></li>")
    return f'<ol class="lineage">{"".join(items)}</ol>' if items else ""


def stage_table(stages: list[Stage]) -> str:
    """Scores with intervals; a change from the row above it is marked only when the intervals do not overlap."""
    names = columns(stages)
    if not stages:
        return ""
    rows = []
    for number, stage in enumerate(stages):
        row = [f"<b>{esc(stage.name)}</b>"]
        for name in names:
            now, before = cell(stage, name), cell(stages[number - 1], name) if number else None
            if now.value is None:
                row.append("-")
                continue
            mark = ""
            if before and before.value is not None and now.low is not None:
                mark = "good" if now.low > before.high else "bad" if now.high < before.low else ""
            interval = f"<small>{now.low:.2f} to {now.high:.2f}</small>" if now.low is not None else ""
            row.append(f'<span class="{mark}">{now.value:.3f}</span>{interval}')
        rows.append(row)
    counts = ", ".join(
        f"{n}: {stages[-1].results['metrics'][n]['n']}" for n in names if n in stages[-1].results["metrics"]
    )
    note = (
        f"<p>Below each score its 95 % interval. Items: {esc(counts)}. Colour marks a change from the row above whose "
        "intervals do not overlap.</p>"
    )
    return table(["stage", *map(short, names)], rows) + note


def recall(stages: list[Stage]) -> str:
    """Share of needles found, a group of bars a context length."""
    groups: dict[str, list[tuple[str, float, float, float]]] = {}
    for stage in stages:
        for name, metric in stage.results["metrics"].items():
            if "items" in metric and name.rsplit("/", 1)[-1].isdigit():
                groups.setdefault(name, []).append((stage.name, metric["value"], metric["low"], metric["high"]))
    figures = [f"<figure>{bars(g)}<figcaption>{esc(n)} tokens</figcaption></figure>" for n, g in groups.items()]
    return f'<div class="charts">{"".join(figures)}</div>' if figures else ""


def training(run: Path) -> str:
    """Loss, learning rate, gradient norm and, for members, reward margins."""
    logs = {}
    for name in ["mid", "sft", *(f"apo/{f.name}" for f in member_folders(run))]:
        file = run / name / "trainer_state.json"
        if file.is_file():
            logs[name] = json.loads(file.read_text())["log_history"]
    if not logs:
        return ""
    charts = []
    for key, title, members in (
        ("loss", "loss", False), ("learning_rate", "learning rate", False), ("grad_norm", "gradient norm", False),
        ("loss", "loss of the members", True), ("rewards/margins", "reward margin", True),
        ("rewards/accuracies", "reward accuracy", True),
    ):  # fmt: skip
        lines = {
            name: [(r["step"], r[key]) for r in log if key in r and "eval_loss" not in r]
            for name, log in logs.items()
            if name.startswith("apo/") == members
        }
        if any(lines.values()):
            charts.append(f"<figure>{curves(lines)}<figcaption>{esc(title)} by step</figcaption></figure>")
    return f'<div class="charts">{"".join(charts)}</div>'


def sweep_part(run: Path) -> str:
    """Scores over the weight of the merge's first model, and what they support."""
    file = run / "sweep" / "sweep.json"
    if not file.is_file():
        return ""
    found = json.loads(file.read_text())
    names = [found["metric"], *found["guardrails"]]
    charts = []
    for name in names:
        line = {name: [(p["weight"], p["scores"][name]) for p in found["points"]]}
        plot = curves(line, f"weight of {found['models'][0]}")
        charts.append(f"<figure>{plot}<figcaption>{esc(name)}</figcaption></figure>")
    rows = []
    for p in found["points"]:
        cells = [f"{p['weight']:g}"]
        for name in names:
            d = p["differences"][name]
            cells.append(f"{p['scores'][name]:.3f}<small>{d['low']:+.3f} to {d['high']:+.3f}</small>")
        rows.append([*cells, esc(", ".join(p["fallen"]) or "-")])
    note = f"<p>Below each score is the 95 % interval of its difference from {esc(found['models'][0])} alone.</p>"
    header = [f"weight of {found['models'][0]}", *names, "guardrails fallen"]
    return f'<div class="charts">{"".join(charts)}</div>{table(header, rows)}{note}<pre>{esc(found["told"])}</pre>'


def data_table(run: Path) -> str:
    rows = []
    for name, manifest in manifests(run):
        for source in manifest["metrics"].get("data", []):
            if source["kept"] or source["rejected"]:
                trained = source["trained"] / source["tokens"] if source["tokens"] else 0
                rows.append([esc(name), esc(source["source"]), esc(source["mode"]), f"{source['kept']:,}",
                             f"{source['rejected']:,}", f"{source['tokens']:,}", f"{trained:.1%}",
                             f"{source['mean_length']:.0f}", f"{source['lost']:,}"])  # fmt: skip
    header = ["stage", "source", "mode", "rows", "rejected", "tokens", "trained", "mean length", "lost to overflow"]
    return table(header, rows) if rows else ""


def cost_table(run: Path) -> str:
    rows = []
    for name, manifest in manifests(run):
        metrics = manifest["metrics"]
        tokens = metrics.get("tokens_seen")
        seconds = metrics.get("train_seconds")
        rate = f"{tokens / seconds:,.0f}" if tokens and seconds else "-"
        rows.append([esc(name), f"{manifest['seconds']:.0f} s", f"{tokens:,}" if tokens else "-", rate,
                     f"{manifest['peak_memory_mb']:,} MB", esc(manifest["machine"])])  # fmt: skip
    return table(["stage", "time", "tokens", "tokens a second", "peak memory", "machine"], rows) if rows else ""


def pairs_part(run: Path) -> str:
    manifest = read_manifest(run / "pairs")
    if not manifest:
        return ""
    metrics = manifest["metrics"]
    kept = [["kept for training", f"{metrics['train']:,}"], ["kept for test", f"{metrics['test']:,}"]]
    rows = kept + [[esc(reason), f"{count:,}"] for reason, count in metrics["drops"].items()]
    lengths = metrics["mean_tokens"]
    cost = ", ".join(f"{side} {n['completion_tokens']:,}" for side, n in metrics["cost"].items())
    note = (
        f"<p>{metrics['prompts']:,} prompts. Mean tokens: chosen {lengths['chosen']}, rejected {lengths['rejected']}; "
        f"chosen is the longer side in {metrics['chosen_longer']:.0%}. {metrics['verified']:.0%} of the pairs are "
        f"verified. Tokens written: {esc(cost)}.</p>"
    )
    return table(["outcome", "prompts"], rows) + note


def samples(stages: list[Stage]) -> str:
    """The first kept answers of every stage, question by question."""
    asked: dict[tuple[str, str], dict[str, dict]] = {}
    for stage in stages:
        for sample in stage.results["samples"]:
            asked.setdefault((sample["question"], sample["mode"]), {})[stage.name] = sample
    parts = []
    for (question, mode), answers in list(asked.items())[:10]:
        rows = [
            [
                f"<b>{esc(n)}</b>",
                f"<pre>{esc(a['answer'])}</pre>",
                '<span class="good">right</span>' if a["right"] else "wrong",
            ]
            for n, a in sorted(answers.items(), key=lambda item: place(item[0]))
        ]
        parts.append(f"<h3>{esc(question)} <small>/{esc(mode)}</small></h3>{table(['stage', 'answer', ''], rows)}")
    return "".join(parts)


def versions_part(run: Path) -> str:
    found = manifests(run)
    if not found:
        return ""
    last = found[-1][1]
    rows = [[esc(k), esc(v)] for k, v in last["versions"].items()]
    return table(["package", "version"], rows) + f"<p>Commit <code>{esc(last['git_commit'])}</code>.</p>"
