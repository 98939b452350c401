"""One self-contained `report.html` of a run: no script, no request, light and dark, made to print.

Every part reads what the stages left on disk (manifests, trainer states, evaluation results) and says "not run" where
a stage left nothing.
"""

import json
import math
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError
from apo_soup.hashing import hash_value
from apo_soup.progress import clock
from apo_soup.report.charts import bars, curves, heat, shares
from apo_soup.report.html import charts, esc, figure, page, section, table
from apo_soup.report.picture import picture
from apo_soup.report.reported import by_number, claims, gain_between
from apo_soup.runs.members import member_folders
from apo_soup.runs.results import Stage, cell, columns, evaluated, parent_of, place, short
from apo_soup.runs.stage import read_manifest, write_json

# Stages whose absence is worth a word.
EXPECTED = ("base", "mid", "sft", "pairs", "apo", "soup", "merged")
MODES = ("think", "no_think")
QUESTIONS = 5
# Characters of an answer that are shown.
SHOWN = 2000
WEIGHTS = (".safetensors", ".bin")
# Keys of a training file that a reader looks for first.
SETTINGS = ("learning_rate", "lr_scheduler_type", "num_train_epochs", "max_steps", "per_device_train_batch_size",
            "gradient_accumulation_steps", "max_length", "packing", "packing_strategy", "loss_type", "beta", "seed",
            "max_grad_norm", "mode", "verifier", "keep", "merge_method")  # fmt: skip


def write_report(recipe: Path, run: Path) -> Path:
    """Write `report.html`, `pipeline.svg` and `table.json` into the run folder; returns the page's path."""
    if not run.is_dir():
        raise UserError(f"{run} is not there: nothing of {recipe} has run yet; run `make eval RECIPE={recipe}` first")
    stages = evaluated(run)
    parts = [
        f"<h1>{esc(run.name)}</h1><p>Base to merged, one page. Recipe <code>{esc(recipe)}</code>.</p>",
        section("Lineage", lineage(run, stages)),
        section("What the makers of SmolLM3 reported, asked of this run", claims_part(stages)),
        section("What each checkpoint can do", stage_table(stages)),
        section("Recall by context length", recall(stages)),
        section("Recall by length and depth", needles(stages)),
        section("Loss by place in a long context", by_place(stages)),
        section("Training", training(run)),
        section("Preference members", members(run)),
        section("The merge weight", sweep_part(run)),
        section("Data", data_part(run)),
        section("Preference pairs made by the pipeline", pairs_part(run)),
        section("What each stage cost", cost_table(run)),
        section("The same questions, every stage, both modes", samples(stages)),
        section("Configuration", configuration(run)),
        section("Versions", versions_part(run)),
    ]
    (run / "pipeline.svg").write_text(picture(stages), encoding="utf-8")
    path = run / "report.html"
    path.write_text(page(f"apo-soup: {run.name}", "".join(parts)), encoding="utf-8")
    names = columns(stages)
    write_json(run / "table.json", {s.name: {n: vars(cell(s, n)) for n in names} for s in stages})
    return path


def manifests(run: Path) -> list[tuple[str, dict[str, Any]]]:
    """Name and manifest of every stage folder of a run, in pipeline order."""
    folders = [*(run / n for n in ("data", "mid", "sft", "pairs")), *member_folders(run), run / "soup", run / "merged"]
    return [(m["stage"], m) for m in map(read_manifest, folders) if m]


def lineage(run: Path, stages: list[Stage]) -> str:
    """Each model with its content hash and its parents; stages that are missing are named."""
    known = dict(manifests(run))
    base = next((s for s in stages if s.name == "base"), None)
    items = []
    for name in EXPECTED:
        found = [(n, m) for n, m in known.items() if n == name or n.startswith(f"{name}/")]
        if name == "base" and base:
            known_by = base.results["model_hash"]
            told = known_by if known_by.startswith("hub:") else f"model {known_by[:12]}"
            items.append(f"<li><b>base</b> <small>{esc(told)}<br>{esc(base.results['model'])}</small></li>")
        elif not found:
            items.append(f'<li class="absent"><b>{esc(name)}</b> <small>not run</small></li>')
        for stage, manifest in found:
            parts = [kept["sha256"] for file, kept in sorted(manifest["outputs"].items()) if file.endswith(WEIGHTS)]
            weights = parts[0] if len(parts) == 1 else hash_value(parts) if parts else None
            inputs = [
                f"{label} {value[:12]}" for label, value in manifest["inputs"].items() if label.startswith("model")
            ]
            told = [f"weights {weights[:12]}"] if weights else []
            told += [f"from {esc(', '.join(parents(manifest)))}"] if parents(manifest) else []
            told += [esc(", ".join(inputs))] if inputs else []
            items.append(f"<li><b>{esc(stage)}</b> <small>{'<br>'.join(told)}</small></li>")
    return f'<ol class="lineage">{"".join(items)}</ol>' if known or base else ""


def parents(manifest: dict[str, Any]) -> list[str]:
    made_from = manifest["metrics"].get("models") or [(manifest.get("ran_with") or {}).get("model_name_or_path")]
    return [str(p) for p in made_from if p]


def claims_part(stages: list[Stage]) -> str:
    rows = []
    for claim in claims(stages):
        tone = {"seen": "good", "the opposite is seen": "bad"}.get(claim.verdict, "")
        gain = claim.gain
        rows.append([
            esc(claim.told),
            f"<code>{esc(claim.metric)}</code><small>{esc(claim.before)} to {esc(claim.after)}</small>",
            f"{claim.scores[0]:.3f} to {claim.scores[1]:.3f}",
            f"{gain.value:+.3f}<small>{gain.interval(3)}, {gain.n} items</small>",
            f'<span class="verdict {tone}">{esc(claim.verdict)}</span>',
        ])  # fmt: skip
    note = (
        "<p>Each line compares two checkpoints on the same items, with a 95 % interval: Newcombe's for shares, that of "
        "a paired bootstrap elsewhere. It leaves out 0 only where a test of single items agrees.</p>"
    )
    header = ["reported", "measured by", "scores", "gain", "here"]
    return table(header, rows, prose=True) + note if rows else ""


def stage_table(stages: list[Stage]) -> str:
    """Scores with intervals; a change from the parent is marked only when it is beyond noise on the same items."""
    names = columns(stages)
    if not stages:
        return ""
    by_name = {s.name: s for s in stages}
    rows = []
    for stage in stages:
        before = by_name.get(parent_of(stage.name, list(by_name)) or "")
        row = [f"<b>{esc(stage.name)}</b>"]
        for name in names:
            now = cell(stage, name)
            if now.value is None:
                row.append("-")
                continue
            gain = gain_between(before, stage, name) if before else None
            beyond = gain is not None and gain.beyond_noise
            tone, sign = ("good", " ▲") if beyond and gain.value > 0 else ("bad", " ▼") if beyond else ("", "")
            interval = f"<small>{now.low:.2f} to {now.high:.2f}</small>" if now.low is not None else ""
            row.append(f'<span class="{tone}">{now.value:.3f}{sign}</span>{interval}')
        rows.append(row)
    last = stages[-1].results["metrics"]
    counts = ", ".join(f"{short(n)}: {last[n]['n']}" for n in names if n in last)
    note = (
        f"<p>Below each score its 95 % interval. Items: {esc(counts)}. ▲ and ▼ mark what is better or worse than the "
        "checkpoint it was made from, beyond noise on the same items.</p>"
    )
    return table(["stage", *map(short, names)], rows) + note


def of_kind(stage: Stage, kind: str) -> list[str]:
    """Names of all metrics of a kind of task."""
    return [m for t in stage.results["tasks"].values() if t["kind"] == kind for m in t["metrics"]]


def recall(stages: list[Stage]) -> str:
    """Share of needles found, a group of bars a context length."""
    groups: dict[str, list[tuple[str, float, float, float]]] = {}
    for stage in stages:
        for name in of_kind(stage, "recall"):
            metric = stage.results["metrics"][name]
            if metric["headline"] and metric["value"] is not None:
                groups.setdefault(name, []).append((stage.name, metric["value"], metric["low"], metric["high"]))
    return charts([figure(bars(g), f"{short(n)} tokens") for n, g in groups.items()])


def needles(stages: list[Stage]) -> str:
    """A map a stage: share of needles found by context length (across) and depth (down)."""
    figures = []
    for stage in stages:
        cells, lengths, depths = {}, {}, {}
        for name in of_kind(stage, "recall"):
            length, at, depth = name.rsplit("/", 1)[-1].partition("@")
            if at:
                cells[length, f"{float(depth):.0%}"] = stage.results["metrics"][name]["value"]
                lengths[length], depths[f"{float(depth):.0%}"] = by_number(length), float(depth)
        if cells:
            across, down = sorted(lengths, key=lengths.get), sorted(depths, key=depths.get)
            figures.append(f"<figure>{heat(stage.name, across, down, cells)}</figure>")
    counts = {stage.results["metrics"][n]["n"] for stage in stages for n in of_kind(stage, "recall") if "@" in n}
    note = (
        "<p>Across: context length in tokens. Down: where the needle stands, 0 % is the beginning. Needles a cell: "
        f"{', '.join(map(str, sorted(counts)))}; their intervals are in results.json.</p>"
    )
    return charts(figures) + note if figures else ""


def by_place(stages: list[Stage]) -> str:
    """Loss over the place in a window, a line a stage."""
    lines: dict[str, list[tuple[float, float]]] = {}
    bands: dict[str, list[tuple[float, float, float]]] = {}
    for stage in stages:
        for name in of_kind(stage, "context_loss"):
            end, metric = int(name.rsplit("/", 1)[-1]), stage.results["metrics"][name]
            if metric["value"] is not None:
                lines.setdefault(stage.name, []).append((end, metric["value"]))
            if metric["low"] is not None:
                bands.setdefault(stage.name, []).append((end, metric["low"], metric["high"]))
    if not lines:
        return ""
    drawing = curves({n: sorted(v) for n, v in lines.items()}, "place", bands)
    return charts([figure(drawing, "nats a token, up to each place; bars: 95 % over windows")])


def logs_of(run: Path, names: list[str]) -> dict[str, list[dict[str, Any]]]:
    files = {name: run / name / "trainer_state.json" for name in names}
    return {n: json.loads(f.read_text())["log_history"] for n, f in files.items() if f.is_file()}


def drawn(logs: dict[str, list[dict[str, Any]]], kinds: tuple[tuple[str, str], ...]) -> list[str]:
    figures = []
    for key, title in kinds:
        lines = {n: [(r["step"], r[key]) for r in log if is_number(r.get(key))] for n, log in logs.items()}
        lines = {n: line for n, line in lines.items() if len(line) > 1}
        if lines:
            figures.append(figure(curves(lines), f"{title} by step"))
    return figures


def training(run: Path) -> str:
    """Loss, learning rate and gradient norm of mid and sft, each on its own axes."""
    figures = []
    for name, log in logs_of(run, ["mid", "sft"]).items():
        kinds = (
            ("loss", f"{name}: loss"),
            ("learning_rate", f"{name}: learning rate"),
            ("grad_norm", f"{name}: gradient norm"),
        )
        figures += drawn({name: log}, kinds)
    return charts(figures)


def members(run: Path) -> str:
    """Curves of all members over each other."""
    logs = logs_of(run, [f"apo/{f.name}" for f in member_folders(run)])
    kinds = (
        ("loss", "loss"), ("learning_rate", "learning rate"), ("grad_norm", "gradient norm"),
        ("rewards/margins", "reward margin"), ("rewards/chosen", "reward of chosen"),
        ("rewards/rejected", "reward of rejected"), ("rewards/accuracies", "reward accuracy"),
        ("eval_rewards/margins", "held-out reward margin"),
    )  # fmt: skip
    return charts(drawn(logs, kinds))


def sweep_part(run: Path) -> str:
    """Scores over the weight of the merge's first model, and what they support."""
    file = run / "sweep" / "sweep.json"
    if not file.is_file():
        return ""
    found = json.loads(file.read_text())
    first, names = found["models"][0], [found["metric"], *found["guardrails"]]
    figures = []
    for name in names:
        alone = next(p["scores"][name] for p in found["points"] if p["weight"] == 1)
        line = {name: [(p["weight"], p["scores"][name]) for p in found["points"]]}
        # Differences are gains: for a loss they point down.
        sign = -1 if found.get("better", {}).get(name) == "lower" else 1
        bounds = {p["weight"]: sorted(sign * p["differences"][name][end] for end in ("low", "high"))
                  for p in found["points"] if p["differences"][name]["low"] is not None}  # fmt: skip
        band = {name: [(weight, alone + low, alone + high) for weight, (low, high) in bounds.items()]}
        figures.append(figure(curves(line, f"weight of {first}", band), f"{name}; bars: 95 % of the difference"))
    rows = []
    for p in found["points"]:
        cells = [f"{p['weight']:g}"]
        for name in names:
            d = p["differences"][name]
            interval = "" if d["low"] is None else f"{d['low']:+.3f} to {d['high']:+.3f}"
            cells.append(f"{p['scores'][name]:.3f}<small>{interval}</small>")
        rows.append([*cells, esc(", ".join(p["fallen"]) or "-")])
    note = f"<p>Below each score is the 95 % interval of its gain on {esc(first)} alone; plus is better.</p>"
    header = [f"weight of {first}", *names, "guardrails fallen"]
    return f"{charts(figures)}{table(header, rows)}{note}<pre>{esc(found['told'])}</pre>"


def data_part(run: Path) -> str:
    """The mixture by source and mode: tokens as bars, and a table with the share that is trained."""
    rows, mixtures = [], []
    for name, manifest in manifests(run):
        if name.startswith("apo/") and any(n.startswith("apo/") for n, _ in mixtures):
            continue  # members of a soup read the same rows
        parts: dict[str, list[tuple[str, float]]] = {}
        for source in manifest["metrics"].get("data", []):
            if not source["kept"] and not source["rejected"]:
                continue
            trained = source["trained"] / source["tokens"] if source["tokens"] else 0
            label = f"{Path(source['source']).stem} ({source['mode']})"
            parts[label] = [("trained", source["trained"]), ("context", source["tokens"] - source["trained"])]
            rows.append([esc(name), esc(source["source"]), esc(source["mode"]), f"{source['kept']:,}",
                         f"{source['rejected']:,}", f"{source['tokens']:,}", f"{trained:.1%}",
                         f"{source['mean_length']:.0f}", f"{source['lost']:,}"])  # fmt: skip
        if parts:
            mixtures.append((name, figure(shares(list(parts.items()), "tokens"), f"{name}: tokens by source and mode")))
    header = ["stage", "source", "mode", "rows", "rejected", "tokens", "trained", "mean length", "lost to overflow"]
    return charts([drawing for _, drawing in mixtures]) + table(header, rows) if rows else ""


def cost_table(run: Path) -> str:
    rows, total = [], 0.0
    for name, manifest in manifests(run):
        metrics = manifest["metrics"]
        tokens, seconds = metrics.get("tokens_seen"), metrics.get("train_seconds")
        rate = f"{tokens / seconds:,.0f}" if tokens and seconds else "-"
        gpu = metrics.get("peak_gpu_memory_mb")
        memory = f"{manifest['peak_memory_mb']:,} MB" + (f"<small>GPU {gpu:,} MB</small>" if gpu else "")
        rows.append([esc(name), f"{manifest['seconds']:.0f} s", f"{tokens:,}" if tokens else "-", rate, memory,
                     esc(manifest["machine"])])  # fmt: skip
        if "checkpoint" not in manifest["config"]:  # a kept step lies within its member's time
            total += manifest["seconds"]
    if not rows:
        return ""
    header = ["stage", "time", "tokens", "tokens a second", "peak memory", "machine"]
    return table(header, rows) + f"<p>All stages together: {clock(total)}. Memory is that of the process.</p>"


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
        f"verified, right over wrong. Tokens written: {esc(cost)}.</p>"
    )
    return table(["outcome", "prompts"], rows) + note


def samples(stages: list[Stage]) -> str:
    """The first kept questions, each answered by every stage in both modes, side by side."""
    asked: dict[str, dict[tuple[str, str], dict[str, Any]]] = {}
    for stage in stages:
        for sample in stage.results["samples"]:
            asked.setdefault(sample["question"], {})[stage.name, sample["mode"]] = sample
    # Questions that were asked in both modes come first: they show what the modes are for.
    order = sorted(asked, key=lambda q: len({mode for _, mode in asked[q]}) < len(MODES))
    parts = []
    for question in order[:QUESTIONS]:
        parts.append(f"<h3>{esc(question if len(question) < 400 else '... ' + question[-400:])}</h3>")
        for mode in MODES:
            cards = []
            for (name, said), answer in sorted(asked[question].items(), key=lambda item: place(item[0][0])):
                if said == mode:
                    verdict = {True: '<span class="good">right</span>', False: "wrong"}.get(answer["right"], "")
                    text = answer["answer"] or "(nothing)"
                    cards.append(f"<div><b>{esc(name)}</b> {verdict}<pre>{esc(in_short(text))}</pre></div>")
            if cards:
                parts.append(f'<p><code>/{mode}</code></p><div class="answers">{"".join(cards)}</div>')
    return "".join(parts)


def in_short(text: str) -> str:
    """A long answer's beginning and end, where its reasoning starts and its answer stands."""
    if len(text) <= SHOWN:
        return text
    return f"{text[: SHOWN // 2]}\n[... {len(text) - SHOWN:,} characters ...]\n{text[-SHOWN // 2 :]}"


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def configuration(run: Path) -> str:
    """The settings of every stage in one table, and all of them below."""
    found = manifests(run)
    rows = []
    for name, manifest in found:
        config = manifest["config"]
        told = "".join(f"{esc(k)} {esc(config[k])}<br>" for k in SETTINGS if config.get(k) not in (None, {}, []))
        whole = f"<pre>{esc(json.dumps(config, indent=1, sort_keys=True))}</pre>"
        resolved = f"<details><summary>all</summary>{whole}</details>"
        rows.append([f"<b>{esc(name)}</b>", told or "-", resolved, f"<code>{esc(manifest['command'])}</code>"])
    if not rows:
        return ""
    return table(["stage", "main settings", "resolved", "command"], rows, prose=True)


def versions_part(run: Path) -> str:
    found = manifests(run)
    if not found:
        return ""
    last = found[-1][1]
    rows = [[esc(k), esc(v)] for k, v in last["versions"].items()]
    return table(["package", "version"], rows) + f"<p>Commit <code>{esc(last['git_commit'])}</code>.</p>"
