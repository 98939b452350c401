"""A card's metadata in the Hub's format: licence, languages, base models, datasets, and scores as a model-index.

`parameters` is a key of our own, for a program that reads the card: `ModelCardData` of huggingface_hub has no such
field.
"""

import html
from pathlib import Path
from typing import Any

from apo_soup.runs.licence import languages_of, licence_of
from apo_soup.runs.lineage import Lineage, row_sources
from apo_soup.runs.results import EvaluatedCheckpoint, headline_titles, score_cell
from apo_soup.runs.sources import HUB_ID, is_local
from apo_soup.tables import printable


def card_metadata(
    name: str, line: Lineage, checkpoint: EvaluatedCheckpoint | None, parameters: int = 0, merged: bool = True
) -> dict[str, Any]:
    """The mapping between the `---` of a card.

    Args:
        line: the model's parents with their manifests.
        checkpoint: the model's own evaluation, where there is one.
        parameters: how many it has, or 0 where that is not known.
        merged: whether it was merged, and not trained.
    """
    roots = line_roots(line)
    metadata: dict[str, Any] = {"library_name": "transformers", "pipeline_tag": "text-generation"}
    metadata["tags"] = ["merge", "apo-soup"] if merged else ["apo-soup"]
    languages = list(dict.fromkeys(language for root in roots for language in languages_of(root)))
    if languages:
        metadata["language"] = languages
    if parameters:
        metadata["parameters"] = parameters
    licences = sorted({licence for root in roots if (licence := licence_of(root))})
    if licences:
        metadata["license"] = licences[0] if len(licences) == 1 else "other"
    bases = [root.partition("@")[0] for root in roots if not Path(root).exists() and HUB_ID.fullmatch(root)]
    if bases:
        metadata |= {"base_model": list(dict.fromkeys(bases)), "base_model_relation": "merge" if merged else "finetune"}
    datasets = sorted({s for m in line.values() for s in row_sources(m) if not is_local(s)})
    if datasets:
        metadata["datasets"] = datasets
    if checkpoint:
        metadata["model-index"] = [{"name": shown_name(name), "results": index_results(checkpoint)}]
    return metadata


def shown_name(name: str) -> str:
    """A name as the Hub shows it in a table."""
    return html.escape(printable(name), quote=False)


def line_roots(line: Lineage) -> list[str]:
    """The models at the end of a line, which no stage here made."""
    return [model for model, manifest in line.items() if manifest is None]


def index_results(checkpoint: EvaluatedCheckpoint) -> list[dict[str, Any]]:
    """Headline scores as the Hub's model-index has them."""
    results = []
    for name, title in headline_titles([checkpoint]).items():
        value = score_cell(checkpoint, name).value
        metric = {"type": "loss" if checkpoint.results["metrics"][name]["better"] == "lower" else "accuracy"}
        if value is not None:
            results.append(
                {
                    "task": {"type": "text-generation"},
                    "dataset": {"name": shown_name(name), "type": "apo-soup"},
                    "metrics": [{**metric, "name": shown_name(title), "value": round(value, 4)}],
                }
            )
    return results
