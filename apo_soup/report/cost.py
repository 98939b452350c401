"""The page's cost: time, tokens, memory and machine of each stage, folded."""

from apo_soup.progress import clock
from apo_soup.report.blocks import Folded, PageBlock, PageTable, TableCell, cells
from apo_soup.report.run_files import RunFiles


def seconds_together(run: RunFiles) -> float:
    """Seconds of all stages; a kept step lies within its member's time."""
    return sum(float(m["seconds"]) for m in run.manifests.values() if "checkpoint" not in m["config"])


def cost_blocks(run: RunFiles) -> list[PageBlock]:
    """Time, tokens seen, tokens a second and peak memory in MB, a row a stage."""
    rows = []
    for name, manifest in run.manifests.items():
        metrics = manifest["metrics"]
        tokens, seconds = metrics.get("tokens_seen"), metrics.get("train_seconds")
        rate = f"{tokens / seconds:,.0f}" if tokens and seconds else "-"
        gpu = metrics.get("peak_gpu_memory_mb")
        foretold = metrics.get("planned") or {}
        memory = [f"GPU {gpu:,} MB"] if gpu else []
        if foretold.get("peak_memory_bytes"):
            memory.append(f"planned {foretold['peak_memory_bytes'] / 2**20:,.0f} MB")
        planned = f"planned {foretold['seconds']:.0f} s of training" if foretold.get("seconds") else ""
        rows.append([
            *cells(name), TableCell(f"{manifest['seconds']:.0f} s", planned),
            *cells(f"{tokens:,}" if tokens else "-", rate),
            TableCell(f"{manifest['peak_memory_mb']:,} MB", ", ".join(memory)), *cells(manifest["machine"]),
        ])  # fmt: skip
    if not rows:
        return []
    header = cells("stage", "time", "tokens", "tokens a second", "peak memory", "machine")
    table = PageTable(header, rows, "Memory is that of the process.")
    return [Folded(f"Time, memory and machine of each stage: {clock(seconds_together(run))} in all", [table])]
