"""The page's cost: time, tokens and memory of each stage."""

from pathlib import Path

from apo_soup.progress import clock
from apo_soup.report.html import esc, html_table
from apo_soup.report.run_files import stage_manifests


def cost_section(run: Path) -> str:
    """Seconds, tokens seen, tokens a second and peak memory in MB, a row a stage.

    Raises:
        UserError: a manifest is cut, empty or of another form.
    """
    rows, total = [], 0.0
    for name, manifest in stage_manifests(run):
        metrics = manifest["metrics"]
        tokens, seconds = metrics.get("tokens_seen"), metrics.get("train_seconds")
        rate = f"{tokens / seconds:,.0f}" if tokens and seconds else "-"
        gpu = metrics.get("peak_gpu_memory_mb")
        foretold = metrics.get("planned") or {}
        memory = f"{manifest['peak_memory_mb']:,} MB" + (f"<small>GPU {gpu:,} MB</small>" if gpu else "")
        if foretold.get("peak_memory_bytes"):
            memory += f"<small>planned {foretold['peak_memory_bytes'] / 2**20:,.0f} MB</small>"
        took = f"{manifest['seconds']:.0f} s"
        if foretold.get("seconds"):
            took += f"<small>planned {foretold['seconds']:.0f} s of training</small>"
        rows.append([esc(name), took, f"{tokens:,}" if tokens else "-", rate, memory,
                     esc(manifest["machine"])])  # fmt: skip
        if "checkpoint" not in manifest["config"]:  # a kept step lies within its member's time
            total += manifest["seconds"]
    if not rows:
        return ""
    header = ["stage", "time", "tokens", "tokens a second", "peak memory", "machine"]
    return html_table(header, rows) + f"<p>All stages together: {clock(total)}. Memory is that of the process.</p>"
