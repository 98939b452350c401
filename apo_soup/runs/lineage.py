"""Where a model comes from: its parents up the line, by the manifests of the folders that stages made."""

from pathlib import Path
from typing import Any

from apo_soup.runs.arguments import arguments_of
from apo_soup.runs.machine_paths import short_path, without_paths
from apo_soup.runs.manifest import model_manifest
from apo_soup.runs.markdown import plain_markdown

# A model of the line with its manifest, or None for one that no stage here made.
Lineage = dict[str, dict[str, Any] | None]
# Settings of a stage that a card names.
_CARD_KEYS = ("loss_type", "beta", "learning_rate", "seed", "merge_method")


def model_label(model: str, run: Path) -> str:
    """A model as a manifest names it: a folder of the run by its place there (`soup`, `apo/1`), another by its path, a
    model of the Hub by its id; BASE+ADAPTER part by part.
    """
    home = run.resolve()
    parts = [model] if Path(model).exists() else model.split("+")
    inside = [Path(p).is_absolute() and Path(p).is_relative_to(home) for p in parts]
    return "+".join(str(Path(p).relative_to(home)) if there else p for p, there in zip(parts, inside, strict=True))


def labelled_model(label: str, run: Path) -> str:
    """The model that `model_label` named: the inverse, as long as it is there."""
    parts = [label] if (run / label).is_dir() else label.split("+")
    return "+".join(str((run / p).resolve()) if (run / p).is_dir() else p for p in parts)


def lineage_of(models: list[str], run: Path) -> Lineage:
    """Every model up the line with its manifest, nearest first.

    Raises:
        UserError: a manifest is no JSON, or one of ours of another form.
    """
    line: Lineage = {}
    waiting = list(models)
    while waiting:
        model = waiting.pop(0)
        if model in line:
            continue
        manifest = model_manifest(Path(model)) if Path(model).is_dir() else None
        line[model] = manifest
        waiting += parents_of(manifest, run)
    return line


def parents_of(manifest: dict[str, Any] | None, run: Path) -> list[str]:
    """The models that a stage's model was made of, by its manifest: folders, or ids of the Hub."""
    if not manifest:
        return []
    own = (manifest.get("ran_with") or {}).get("model_name_or_path")
    merged = manifest["metrics"].get("models") if manifest.get("metrics") else None
    return [own] if own else [labelled_model(m, run) for m in merged or []]


def oldest_first(line: Lineage, run: Path) -> Lineage:
    """A line in the order in which its models came to be: each behind those that it was made of."""
    ordered: Lineage = {}

    def add(model: str) -> None:
        if model in ordered or model not in line:
            return
        for parent in parents_of(line[model], run):
            add(parent)
        ordered[model] = line[model]

    for model in line:
        add(model)
    return ordered


def lineage_lines(line: Lineage, run: Path) -> list[str]:
    """A numbered line a model, in the order in which they came to be: what it was made of, with the content hash of
    that, and the settings that made it.
    """
    lines = []
    for number, (model, manifest) in enumerate(oldest_first(line, run).items(), 1):
        config = (manifest or {}).get("config", {})
        parents = [_model_name(parent, line.get(parent)) for parent in parents_of(manifest, run)]
        content = (manifest or {}).get("inputs", {}).get("model")
        facts = [f"from {', '.join(parents)}" + (f" ({content[:12]})" if content else "")] if parents else []
        facts += [f"from model {content[:12]}"] if content and not parents else []
        facts += [f"{key} {_value_text(config[key])}" for key in _CARD_KEYS if config.get(key) is not None]
        arguments = arguments_of(manifest or {})
        if arguments:
            facts.append(f"made with {without_paths(arguments)} on the command line, beside its file")
        told = f": {plain_markdown(', '.join(facts))}" if facts else ""
        lines.append(f"{number}. {plain_markdown(_model_name(model, manifest))}{told}")
    return lines


def _model_name(model: str, manifest: dict[str, Any] | None) -> str:
    """A model by its stage, or as `short_model_name` has it."""
    return str(manifest["stage"]) if manifest and manifest.get("stage") else short_model_name(model)


def _value_text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def data_lines(line: Lineage, run: Path) -> list[str]:
    """A line a stage and source of rows, oldest stage first: rows, tokens, and the share that is trained."""
    lines, seen = [], set()
    for manifest in oldest_first(line, run).values():
        for source in ((manifest or {}).get("metrics") or {}).get("data", []):
            key = (source["source"], source["mode"], source["tokens"])
            if key not in seen and source["kept"]:
                seen.add(key)
                share = source["trained"] / source["tokens"] if source["tokens"] else 0
                lines.append(
                    f"- {plain_markdown((manifest or {})['stage'])}: {plain_markdown(short_path(source['source']))} "
                    f"({plain_markdown(source['mode'])}): {source['kept']:,} rows, "
                    f"{source['tokens']:,} tokens, {share:.0%} trained"
                )
    return lines


def row_sources(manifest: dict[str, Any] | None) -> list[str]:
    """The ids of the rows that a stage was trained on."""
    if not manifest or not manifest.get("metrics"):
        return []
    ids = (s["source"].partition(":")[0].partition(" #")[0] for s in manifest["metrics"].get("data", []))
    return list(dict.fromkeys(ids))


def short_model_name(model: str) -> str:
    """A model as a card names it: a folder by its last parts, so that no path of a machine is published."""
    base, plus, adapter = model.partition("+")
    if plus and not Path(model).exists():
        return f"{short_model_name(base)}+{short_model_name(adapter)}"
    if not Path(model).is_absolute() and not Path(model).is_dir():
        return model
    folder = Path(model)
    return f"apo/{folder.name}" if folder.parent.name == "apo" else folder.name


def with_short_names(node: Any) -> Any:
    """A mergekit configuration with every absolute path in it replaced by `short_model_name`."""
    if isinstance(node, dict):
        return {k: with_short_names(v) for k, v in node.items()}
    if isinstance(node, list):
        return [with_short_names(v) for v in node]
    is_path = isinstance(node, str) and any(Path(part).is_absolute() for part in node.split("+"))
    return short_model_name(node) if is_path else node
