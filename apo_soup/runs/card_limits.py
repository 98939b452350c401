"""What a card says of a model's size and limits: what stands in its files, and what nobody measured."""

from pathlib import Path
from typing import Any

from apo_soup.runs.lineage import Lineage
from apo_soup.runs.results import EvaluatedCheckpoint
from apo_soup.stored_json import read_json
from apo_soup.weights import value_counts


def parameter_count(folder: Path) -> int:
    """How many values the weights of a model folder hold; 0 where it has none yet. Tied weights are stored once.

    Raises:
        UserError: a file of weights is cut off.
    """
    return sum(value_counts(folder).values())


def limit_lines(folder: Path, line: Lineage, own: EvaluatedCheckpoint | None) -> list[str]:
    """A line a limit, as a Markdown list.

    Args:
        folder: the model's folder.
        line: the model and its parents, with their manifests.
        own: the model's own evaluation, where there is one.

    Raises:
        UserError: its configuration cannot be read.
    """
    lines = []
    config = _config(folder)
    longest, trained = config.get("max_position_embeddings"), _trained_length(line)
    if longest:
        seen = f"; it was trained here on at most {trained:,} tokens at once" if trained else ""
        lines.append(f"- It is built for at most {longest:,} tokens{seen}.")
    measured = (
        "- The scores above are all that was measured. They are of this run's own held-out rows"
        if own
        else "- Nothing was measured of it"
    )
    lines.append(f"{measured}; nobody looked at its safety, its bias or its knowledge.")
    lines.append("- What its parents get wrong, and what stands in the data that it was trained on, it may repeat.")
    return lines


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    return read_json(file, folder, "copy the model again") if file.is_file() else {}


def _trained_length(line: Lineage) -> int:
    """The longest sequence that a stage of the line was trained on; 0 where none says."""
    lengths = ((manifest or {}).get("config", {}).get("max_length") for manifest in line.values())
    return max((length for length in lengths if isinstance(length, int)), default=0)
