"""The page's lineage: every model with its content hash and its parents."""

from pathlib import Path
from typing import Any

from apo_soup.hashing import hash_value
from apo_soup.report.html import esc
from apo_soup.report.run_files import stage_manifests
from apo_soup.runs.results import EvaluatedCheckpoint

# Stages whose absence is worth a word.
_PIPELINE = ("base", "mid", "sft", "pairs", "apo", "soup", "merged")
_WEIGHT_SUFFIXES = (".safetensors", ".bin")


def lineage_section(run: Path, stages: list[EvaluatedCheckpoint]) -> str:
    """Each model with its content hash and its parents; stages that are missing are named.

    Raises:
        UserError: a manifest is cut, empty or of another form.
    """
    known = dict(stage_manifests(run))
    base = next((s for s in stages if s.name == "base"), None)
    items = []
    for name in _PIPELINE:
        made = [(n, m) for n, m in known.items() if n == name or n.startswith(f"{name}/")]
        if name == "base" and base:
            model_hash = base.results["model_hash"]
            identity = model_hash if model_hash.startswith("hub:") else f"model {model_hash[:12]}"
            items.append(f"<li><b>base</b> <small>{esc(identity)}<br>{esc(base.results['model'])}</small></li>")
        elif not made:
            items.append(f'<li class="absent"><b>{esc(name)}</b> <small>not run</small></li>')
        for stage, manifest in made:
            parts = [r["sha256"] for file, r in sorted(manifest["outputs"].items()) if file.endswith(_WEIGHT_SUFFIXES)]
            weights = parts[0] if len(parts) == 1 else hash_value(parts) if parts else None
            inputs = [
                f"{label} {value[:12]}" for label, value in manifest["inputs"].items() if label.startswith("model")
            ]
            facts = [f"weights {weights[:12]}"] if weights else []
            facts += [f"from {esc(', '.join(_parents(manifest)))}"] if _parents(manifest) else []
            facts += [esc(", ".join(inputs))] if inputs else []
            items.append(f"<li><b>{esc(stage)}</b> <small>{'<br>'.join(facts)}</small></li>")
    return f'<ol class="lineage">{"".join(items)}</ol>' if known or base else ""


def _parents(manifest: dict[str, Any]) -> list[str]:
    made_from = manifest["metrics"].get("models") or [(manifest.get("ran_with") or {}).get("model_name_or_path")]
    return [str(p) for p in made_from if p]
