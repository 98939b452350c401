"""The page's data: the mixture of each stage by source and mode, and the preference pairs that the run made."""

from pathlib import Path

from apo_soup.report.blocks import Bars, Figures, Folded, PageBlock, PageFigure, PageTable, Prose, Section, cells
from apo_soup.report.run_files import RunFiles
from apo_soup.runs.machine_paths import short_path
from apo_soup.runs.manifest import Manifest, SourceCounts, StageMetrics, read_manifest
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


def stage_sources(run: RunFiles) -> dict[str, list[SourceCounts]]:
    """The sources of each training stage that gave rows; of a soup's members the first's, since all read the same."""
    found: dict[str, list[SourceCounts]] = {}
    for name, manifest in run.manifests.items():
        if name.startswith("apo/") and any(other.startswith("apo/") for other in found):
            continue
        sources = [SourceCounts.model_validate(source) for source in manifest["metrics"].get("data", [])]
        used = [source for source in sources if source.kept or source.rejected]
        if used:
            found[name] = used
    return found


def data_section(run: RunFiles) -> Section:
    """The mixture by source and mode: tokens as bars, and a folded table; then what came of the pairs.

    Raises:
        UserError: a manifest is cut, empty or of another form.
    """
    figures: list[PageFigure] = []
    rows = []
    for name, sources in stage_sources(run).items():
        bars = [(f"{Path(s.source).stem} ({s.mode.replace('_', ' ')})", s.trained, s.tokens) for s in sources]
        note = "" if figures else "Green is trained, the rest is context."
        figures.append(PageFigure(f"{name.partition('/')[0]}: tokens, trained and context", Bars(bars), note))
        for source in sources:
            share = source.trained / source.tokens if source.tokens else 0
            rows.append(cells(
                name, short_path(source.source), source.mode, f"{source.kept:,}", f"{source.rejected:,}",
                f"{source.tokens:,}", f"{share:.1%}", f"{source.mean_length:.0f}", f"{source.lost:,}",
            ))  # fmt: skip
    blocks: list[PageBlock] = [Figures(figures)] if figures else []
    if rows:
        header = ("stage", "source", "mode", "rows", "rejected", "tokens", "trained", "mean length", "lost to overflow")
        blocks.append(Folded("Rows by source", [PageTable(cells(*header), rows)]))
    return Section("Data", blocks + _pairs(run.folder))


def _pairs(run: Path) -> list[PageBlock]:
    """What became of the prompts of the pairs stage, mean tokens of both sides, and what they cost to write."""
    manifest = read_manifest(run / "pairs", PairsManifest)
    if not manifest:
        return []
    metrics = PairsMetrics.model_validate(manifest["metrics"])
    kept = [("kept for training", f"{metrics.train:,}"), ("kept for test", f"{metrics.test:,}")]
    rows = [cells(*row) for row in (*kept, *((reason, f"{count:,}") for reason, count in metrics.drops.items()))]
    cost = ", ".join(f"{side} {written.completion_tokens:,}" for side, written in metrics.cost.items())
    told = (
        f"Preference pairs made by the run: {metrics.train + metrics.test:,} of {metrics.prompts:,} prompts. Mean "
        f"tokens: chosen {metrics.mean_tokens.chosen}, rejected {metrics.mean_tokens.rejected}; chosen is the longer "
        f"side in {metrics.chosen_longer:.0%}. {metrics.verified:.0%} of the pairs are verified, right over wrong. "
        f"Tokens written: {cost}."
    )
    return [Prose(told), Folded("What became of the prompts", [PageTable(cells("outcome", "prompts"), rows)])]
