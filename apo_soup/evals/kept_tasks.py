"""Tasks that an evaluation has done, kept until all are: one that was stopped goes on behind them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from apo_soup.evals.metrics import TaskResult
from apo_soup.progress import say, warn
from apo_soup.runs.manifest import write_json
from apo_soup.runs.own_names import marked_name
from apo_soup.runs.results import Sample, StoredScore, TaskRecord
from apo_soup.stored_json import Form, OtherFormError, json_of_form

# What a task leaves: its record, its metrics by name and its samples in results.json, and files beside it.
TaskPart = dict[str, Any]


class WrittenPart(Form):
    """A task's part as a file holds it."""

    record: TaskRecord
    metrics: dict[str, StoredScore]
    samples: list[Sample]
    files: dict[str, Any]


class KeptTask(Form):
    """A file of a task that is done, and what it was run on."""

    about: dict[str, Any]
    part: WrittenPart


def task_part(name: str, record: dict[str, Any], result: TaskResult) -> TaskPart:
    """A task as it stands in results.json, and its files."""
    return {
        "record": record | ({"notes": result.notes} if result.notes else {}),
        "metrics": {key: metric.as_json() for key, metric in result.metrics.items()},
        "samples": [{"task": name, **asdict(sample)} for sample in result.samples],
        "files": result.files,
    }


@dataclass(frozen=True)
class KeptTasks:
    """Finished tasks in the folder that a stage works in, which is another where anything that decides them changed.

    Args:
        folder: None where nothing is kept.
        about: what they were run on; those of another device or release are asked again.
    """

    folder: Path | None
    about: dict[str, Any]

    def found(self, name: str) -> TaskPart | None:
        """A task that was finished before, or None; one whose file is damaged is asked again."""
        file = self._file(name)
        if file is None or not file.is_file():
            return None
        try:
            kept = json_of_form(file, KeptTask)
        except OtherFormError as error:
            warn(f"{name}: asked again, for {file} is damaged: {error}")
            return None
        if kept["about"] != self.about:
            return None
        say(f"{name}: kept from the evaluation that was stopped")
        return {key: kept["part"][key] for key in WrittenPart.model_fields}

    def keep(self, name: str, part: TaskPart) -> None:
        """Keep a finished task."""
        file = self._file(name)
        if file:
            file.parent.mkdir(exist_ok=True)
            write_json(file, {"about": self.about, "part": part})

    def _file(self, name: str) -> Path | None:
        return self.folder / f"{marked_name(name)}.json" if self.folder else None
