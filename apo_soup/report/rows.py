"""The page's data: the mixture of each stage by source and mode, and the preference pairs that the run made."""

from pathlib import Path

from apo_soup.report.charts import stacked_bars
from apo_soup.report.html import chart_grid, esc, figure, html_table
from apo_soup.report.run_files import stage_manifests
from apo_soup.runs.manifest import Manifest, StageMetrics, read_manifest
from apo_soup.stored_json import Count, Form


class MeanTokens(Form):
    """Mean lengths of both sides."""

    chosen: float
    rejected: float


class SideCost(Form):
    """What a side wrote."""

    completion_tokens: Count


class PairsMetrics(StageMetrics):
    """What came of the prompts of the pairs stage."""

    prompts: Count
    train: Count
    test: Count
    drops: dict[str, Count]
    mean_tokens: MeanTokens
    cost: dict[str, SideCost]
    chosen_longer: float
    verified: float


class PairsManifest(Manifest):
    """The manifest of the pairs stage."""

    metrics: PairsMetrics


def data_section(run: Path) -> str:
    """The mixture by source and mode: tokens as bars, and a table with the share that is trained.

    Raises:
        UserError: a manifest is cut, empty or of another form.
    """
    rows: list[list[str]] = []
    mixtures: list[tuple[str, str]] = []
    for name, manifest in stage_manifests(run):
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
            mixtures.append(
                (name, figure(stacked_bars(list(parts.items()), "tokens"), f"{name}: tokens by source and mode"))
            )
    header = ["stage", "source", "mode", "rows", "rejected", "tokens", "trained", "mean length", "lost to overflow"]
    return chart_grid([drawing for _, drawing in mixtures]) + html_table(header, rows) if rows else ""


def pairs_section(run: Path) -> str:
    """What became of the prompts of the pairs stage, mean tokens of both sides, and what they cost to write.

    Raises:
        UserError: a manifest is cut, empty or of another form.
    """
    manifest = read_manifest(run / "pairs", PairsManifest)
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
    return html_table(["outcome", "prompts"], rows) + note
