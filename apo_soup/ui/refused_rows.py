"""The rows that the last preparation of a training file rejected or left out, with the reasons, page by page."""

from dataclasses import dataclass, field
from pathlib import Path

from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.training import TrainingFile
from apo_soup.data.sources.row_pages import RowPages
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError
from apo_soup.runs.machine_paths import short_path
from apo_soup.runs.sources import file_states
from apo_soup.ui.stage_folders import files_of_stages

REFUSED_A_PAGE = 50


@dataclass(frozen=True)
class RefusedRowShown:
    """A row that is not trained on: its place, its source and the reason."""

    place: str
    source: str
    reason: str


@dataclass
class RefusedShown:
    """A page of a list: the file, the list's name, its rows, the number of the first, and whether there are more.
    `problem` is a sentence in place of the rows.
    """

    file: str
    name: str
    rows: list[RefusedRowShown] = field(default_factory=list)
    first: int = 0
    more: bool = False
    problem: str = ""


def training_names(recipe: Path) -> list[str]:
    """The names of a recipe's files that train, in the order of the stages."""
    return [file.stem for file in files_of_stages(recipe) if stage_of_file(file) in ("sft", "apo")]


def refused_page(recipe: Path, name: str, kind: str, first: int = 0) -> RefusedShown | None:
    """A page of the `rejected` or `dropped` rows of a training file; None where there is no such file or list.

    What a preparation left is read, whatever became of the rows since.
    """
    if name not in training_names(recipe) or kind not in ("rejected", "dropped"):
        return None
    shown = RefusedShown(name, kind, first=first)
    try:
        file = _list_of(recipe, name, kind)
        if file is None:
            return shown
        rows, shown.more = RowPages(Source(str(file)), str(file)).rows(first, REFUSED_A_PAGE)
        for row in rows:
            fields = row.content or {}
            told = str(fields.get("reason", row.problem or ""))
            place = str(fields.get("row", row.place))
            shown.rows.append(RefusedRowShown(place, short_path(str(fields.get("source", ""))), told))
    except UserError as error:
        shown.problem = str(error)
    return shown


def _list_of(recipe: Path, name: str, kind: str) -> Path | None:
    """The file of a list that the last preparation left, or None.

    Raises:
        UserError: the training file is wrong, or what was prepared goes meanwhile.
    """
    file = recipe / f"{name}.yaml"
    loaded = load(file, stage_of_file(file) or "")
    assert isinstance(loaded, TrainingFile)
    output = Path(loaded.output_dir)
    prepared = output.parent / "prepared"
    if kind == "rejected":
        found = [prepared / f"{output.name}-rejects.jsonl"]
    else:
        folders = [f for f in prepared.glob("*-*") if f.name.rpartition("-")[0] == output.name and f.is_dir()]
        states = file_states(folders, str(prepared))
        found = [max(states, key=lambda state: state.mtime_ns).path / "dropped.jsonl"] if states else []
    return next((file for file in found if file.is_file()), None)
