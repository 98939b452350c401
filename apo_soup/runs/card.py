"""The card of a model: from which line of parents and data it comes, what it can do, how to use it, what is not known.

That of a merged folder is written with the folder, and once more with the evaluation's figures when a report is made;
that of a trained one when it is sent. A card holds what manifests and results say, in the Hub's metadata format.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from apo_soup.config.merge import BESIDE_MERGE
from apo_soup.config.mergekit import MergekitKeys
from apo_soup.errors import told_by_disk
from apo_soup.runs.card_limits import limit_lines, parameter_count
from apo_soup.runs.card_metadata import card_metadata, line_roots
from apo_soup.runs.card_snippets import MODEL_PLACEHOLDER, TOOLS_SNIPPET, USE_SNIPPET
from apo_soup.runs.licence import licence_sentence
from apo_soup.runs.lineage import (
    Lineage,
    data_lines,
    labelled_model,
    lineage_lines,
    lineage_of,
    parents_of,
    with_short_names,
)
from apo_soup.runs.manifest import read_manifest
from apo_soup.runs.markdown import fenced, plain_markdown
from apo_soup.runs.results import (
    EvaluatedCheckpoint,
    evaluated_checkpoints,
    headline_titles,
    score_cell,
)

# Checkpoints that stand beside the model in the table of scores.
COMPARED = ("base", "sft", "soup")


def write_card(
    folder: Path,
    name: str,
    config: MergekitKeys,
    models: list[str],
    run: Path,
    checkpoints: list[EvaluatedCheckpoint] | None = None,
) -> None:
    """Write `README.md` into a merged folder.

    Args:
        folder: the merged folder, finished or not.
        name: the stage's name, `soup` or `merged`.
        config: mergekit's configuration, models by folder or Hub id.
        models: the models that were mixed.
        run: the run's folder, whose other stages and results the card names where they are there.
        checkpoints: the run's results, where they have been read.

    Raises:
        UserError: results of the run or the folder's weights cannot be read.
    """
    told = f"A {plain_markdown(config.merge_method)} merge of {len(models)} models, made with apo-soup and mergekit's "
    given = fenced(yaml.safe_dump(with_short_names(config.given_values()), sort_keys=False).strip(), "yaml")
    own = {"stage": name, "config": {"merge_method": config.merge_method}, "metrics": {"models": models}, "inputs": {}}
    text = _card(_Subject(folder, name, run, own, models, merged=True), [f"{told}schema:", given], checkpoints)
    (folder / "README.md").write_text(text, encoding="utf-8")


def stage_card(run: Path, name: str) -> str:
    """The card of a folder of a run that was trained, which no stage writes itself.

    Raises:
        UserError: results of the run, a manifest or the folder's weights cannot be read.
    """
    manifest = read_manifest(run / name) or {"stage": name, "config": {}, "inputs": {}}
    parents = parents_of(manifest, run)
    told = f"Trained with apo-soup: the stage {plain_markdown(manifest['stage'])} of a run."
    return _card(_Subject(run / name, name, run, manifest, parents, merged=False), [told])


@dataclass(frozen=True)
class _Subject:
    """What a card is about: a folder, its name in a run, its own manifest as far as it is known, its parents."""

    folder: Path
    name: str
    run: Path
    manifest: dict[str, Any]
    models: list[str]
    merged: bool


def _card(subject: _Subject, opening: list[str], checkpoints: list[EvaluatedCheckpoint] | None = None) -> str:
    """The text of a card, from the metadata to the licence."""
    name, run = subject.name, subject.run
    line: Lineage = lineage_of(subject.models, run)
    whole = {**line, str(run / name): subject.manifest}
    checkpoints = evaluated_checkpoints(run) if checkpoints is None else checkpoints
    own = next((c for c in checkpoints if c.name == name), None)
    parameters = parameter_count(subject.folder)
    metadata = card_metadata(name, whole, own, parameters, subject.merged)
    size = [f"It has {parameters:,} parameters."] if parameters else []
    parts = [
        f"---\n{yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True).strip()}\n---",
        f"# {plain_markdown(run.name or 'model')}: {plain_markdown(name)}",
        *opening,
        *size,
        "## Lineage\n\n" + "\n".join(lineage_lines(whole, run)),
    ]
    data = data_lines(whole, run)
    if data:
        parts.append("## Data\n\n" + "\n".join(data))
    if own:
        compared = [c for c in checkpoints if c.name in (*COMPARED, name)]
        parts.append("## Evaluation\n\n" + card_scores(own, compared))
    parts += [f"## Use\n\n{USE_SNIPPET}", f"### Tools\n\n{TOOLS_SNIPPET}"]
    parts.append("## Limits\n\n" + "\n".join(limit_lines(subject.folder, whole, own)))
    parts.append(f"## Licence\n\n{licence_sentence(metadata.get('license'), line_roots(line))}")
    return "\n\n".join(parts) + "\n"


def rewrite_card(run: Path, name: str, checkpoints: list[EvaluatedCheckpoint] | None = None) -> bool:
    """Write the card of a finished folder anew, with what was evaluated since, which is read unless it is given; False
    where there is no such folder.

    Raises:
        UserError: the disk refuses it.
    """
    manifest = read_manifest(run / name)
    if manifest is None:
        return False
    labels = [re.fullmatch(r"(model \d+) (.*)", label) for label in manifest["inputs"]]
    models = {label[1]: labelled_model(label[2], run) for label in labels if label}
    config = {k: v for k, v in manifest["config"].items() if k not in BESIDE_MERGE}
    with told_by_disk("report", run / name):
        merged = MergekitKeys.model_validate(_with_models(config, models))
        write_card(run / name, name, merged, list(models.values()), run, checkpoints)
    return True


def _with_models(node: Any, models: dict[str, str]) -> Any:
    """A manifest's configuration with `model N` replaced by the models themselves."""
    if isinstance(node, dict):
        return {k: _with_models(v, models) for k, v in node.items()}
    if isinstance(node, list):
        return [_with_models(v, models) for v in node]
    return models.get(node, node) if isinstance(node, str) else node


def card_to_send(run: Path, name: str) -> str:
    """The card of a folder of a run; one is written for a folder without.

    Raises:
        UserError: as `stage_card` does.
    """
    file = run / name / "README.md"
    return file.read_text(encoding="utf-8") if file.is_file() else stage_card(run, name)


def card_on_hub(card: str, repository: str) -> str:
    """A card with its place on the Hub in the snippets."""
    return card.replace(MODEL_PLACEHOLDER, repository)


def card_scores(own: EvaluatedCheckpoint, compared: list[EvaluatedCheckpoint]) -> str:
    """Headline scores of a model with 95 % intervals as a Markdown table, a column a checkpoint."""
    lines = [
        "| score | " + " | ".join(plain_markdown(c.name) for c in compared) + " |",
        "|---" * (len(compared) + 1) + "|",
    ]
    for name, title in headline_titles([own]).items():
        lines.append(f"| {plain_markdown(title)} | " + " | ".join(score_cell(c, name).text() for c in compared) + " |")
    engine = own.results["engine"]
    ran = f"transformers {engine['transformers']}, {engine['dtype']}" if "dtype" in engine else engine["answers"]
    suite = plain_markdown(own.results["suite_hash"][:12])
    origin = f"In brackets the 95 % interval. Suite {suite}, {plain_markdown(ran)}."
    return "\n".join([*lines, "", origin])
