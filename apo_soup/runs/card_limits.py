"""What a card says of a model's size and limits: what stands in its files, and what nobody measured."""

from collections.abc import Set
from pathlib import Path
from typing import Any

from apo_soup.runs.lineage import Lineage
from apo_soup.runs.results import EvaluatedCheckpoint
from apo_soup.stored_json import read_json
from apo_soup.weights import value_counts

# Kinds of tasks whose items are other people's, for everybody's models.
_PUBLIC = {"harness", "livecodebench", "bfcl"}


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
    lines.append(f"- {measured_sentence({task['kind'] for task in own.results['tasks'].values()} if own else set())}")
    lines.append("- What its parents get wrong, and what stands in the data that it was trained on, it may repeat.")
    return lines


def measured_sentence(kinds: Set[str]) -> str:
    """What was measured and what was not, by the kinds of the tasks that were run; none where nothing was.

    >>> measured_sentence({"answer", "safety"}).partition(". ")[2]
    "They are of this run's own held-out rows; nobody looked at its bias or its knowledge."
    >>> measured_sentence({"harness"}).partition(". ")[2]
    'They are of public tasks; nobody looked at its safety, its bias or its knowledge beyond what these ask.'
    """
    looked = f"nobody looked at {'' if 'safety' in kinds else 'its safety, '}its bias or its knowledge"
    if not kinds:
        return f"Nothing was measured of it; {looked}."
    rows = ["this run's own held-out rows"] if kinds - _PUBLIC else []
    rows += ["public tasks"] if kinds & _PUBLIC else []
    # Which of the harness's many tasks were run, the table of scores says; a program's kind is of one sort.
    beyond = " beyond what these ask" if "harness" in kinds else ""
    return f"The scores above are all that was measured. They are of {' and of '.join(rows)}; {looked}{beyond}."


def _config(folder: Path) -> dict[str, Any]:
    file = folder / "config.json"
    return read_json(file, folder, "copy the model again") if file.is_file() else {}


def _trained_length(line: Lineage) -> int:
    """The longest sequence that a stage of the line was trained on; 0 where none says."""
    lengths = ((manifest or {}).get("config", {}).get("max_length") for manifest in line.values())
    return max((length for length in lengths if isinstance(length, int)), default=0)
