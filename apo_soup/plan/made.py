"""Which models and rows the stage files of a recipe's folder make, and which file is missing to make one."""

import re
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

from apo_soup.config.given import Given
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.places import resolved
from apo_soup.errors import UserError
from apo_soup.runs.makers import ADAPTER, MAKE_ROWS, outputs_given, stage_folder
from apo_soup.runs.members import member_names

# The folders of a run that are models, and the stage file that makes each.
MODEL_FOLDERS = {
    "extend": "extend.yaml", "mid": "mid.yaml", "sft": "sft.yaml", "soup": "merge.yaml", "merged": "merge.yaml",
}  # fmt: skip
MEMBER = re.compile(r"\d+(-at-[\d.]+)?|\*")


class MadeHere:
    """The folders that the stage files of a folder make, whether or not they are right, and whether or not they ran."""

    def __init__(self, folder: Path):
        self.folder = folder

    @cached_property
    def files(self) -> list[tuple[Given, Path]]:
        """The keys of every stage file, and the folder that it writes to."""
        return list(outputs_given(self.folder))

    @property
    def outputs(self) -> list[tuple[str, Path]]:
        """The kind of every stage file, and the folder that it writes to."""
        return [(stage_of_file(given.path) or "", output) for given, output in self.files]

    @cached_property
    def members(self) -> dict[Path, list[str]]:
        """The folders of soup members by what they lie in, of the apo files that are right."""
        found = {}
        for given, output in self.files:
            if stage_of_file(given.path) == "apo":
                with suppress(UserError):  # which is told of the file itself
                    found[output] = member_names(load(given.path, "apo"))
        return found

    @cached_property
    def runs(self) -> set[Path]:
        """The folders of the runs that the files work in."""
        return {output if kind == "merge" else output.parent for kind, output in self.outputs}

    def makes(self, name: str | Path) -> bool:
        """Whether a stage makes the model or the rows of this name."""
        place, model = resolved(name), stage_folder(str(name))
        for given, output in self.files:
            kind = stage_of_file(given.path)
            if kind == "sft" and model == output:
                return True
            if kind == "apo" and model.parent == output and MEMBER.fullmatch(model.name):
                return model.name in self.members.get(output, [model.name]) or model.name == "*"
            if kind == "merge" and model.parent == output and model.name in ("soup", "merged"):
                return True
            if kind in MAKE_ROWS and _writes_rows(given, output, place):
                return True
        return False

    def made_from_sft(self, rows: str) -> bool:
        """Whether the stage pairs makes rows of this name, which comes behind mid and sft."""
        return any(kind == "pairs" and resolved(rows).is_relative_to(output) for kind, output in self.outputs)

    def lacks_stage(self, name: str | Path) -> bool:
        """Whether a name is that of a stage of the run, which no file makes, and which is not there."""
        return self._file_for(name) is not None and not Path(name).exists()

    def missing(self, name: str, place: str) -> str:
        """The sentence about a stage's folder that is not there and that no file makes."""
        file = self._file_for(name)
        expected = f"{place}: expected a model that is there or that a stage makes, got {name}"
        if file and (self.folder / file).is_file():
            return f"{expected}, which {file} does not make; correct one of the two"
        return f"{expected} and no {file} in {self.folder}; add that file, or name a model that is there"

    def _file_for(self, name: str | Path) -> str | None:
        place = resolved(name)
        place = place.parent if place.name == ADAPTER else place
        if place.parent in self.runs:
            return MODEL_FOLDERS.get(place.name)
        return "apo.yaml" if place.parent.name == "apo" and place.parent.parent in self.runs else None


def _writes_rows(given: Given, output: Path, place: Path) -> bool:
    """Whether a stage that makes rows in `output` writes these, a file or a pattern of files."""
    if place.parent not in (output, output / "**"):
        return False
    counts = given.values.get("counts")
    if isinstance(counts, dict):
        files = [f"{name}.jsonl" for name in counts]
    elif "strong" in given.values:
        splits = ["train", *(["test"] if given.values.get("test_share") else [])]
        files = [f"{split}.{given.values.get('format') or 'jsonl'}" for split in splits]
    else:  # a file that cannot be read, or is wrong, which is told itself
        return True
    return any(fnmatchcase(file, place.name) for file in files)
