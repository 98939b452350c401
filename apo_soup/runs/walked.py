"""Where the points of a walk over training keys lie: beside the walk's own folder, a run folder each.

Prepared rows and reference values are those of the run: what two points have in common is made once.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from apo_soup.config.sweep import SweepFile
from apo_soup.config.swept_points import TrainingPoint
from apo_soup.config.training import TrainingFile
from apo_soup.runs.manifest import write_json
from apo_soup.runs.own_names import own_file_name

# In the folder of a point, what it is; and what it shares with the run.
POINT_FILE = "point.json"
SHARED_FOLDERS = ("prepared", "reference")


def points_folder(file: SweepFile) -> Path:
    """The folder of a walk's points."""
    output = Path(file.output_dir)
    return output.with_name(f"{output.name}_points")


def point_folder(file: SweepFile, point: TrainingPoint) -> Path:
    """The run folder of a point, by its own keys, so that a file with other points finds those it knew."""
    return points_folder(file) / own_file_name(point.told)


def scores_folder(folder: Path, tasks: Sequence[str], *before: str) -> Path:
    """Where a walk keeps what some tasks of a suite gave, beside what others did; `before` begins its name.

    >>> scores_folder(Path("p"), ["a", "b"]).as_posix(), scores_folder(Path("p"), ["a"], "evals").as_posix()
    ('p/a+b', 'p/evals+a')
    """
    return folder / own_file_name("+".join((*before, *tasks)))


def trained_output(folder: Path, training: TrainingFile) -> Path:
    """The `output_dir` of a training, or of a soup member's file, in the folder of its point."""
    return folder / _usual_output(training).name


def trained_model(folder: Path, training: TrainingFile) -> Path:
    """The model that a training makes in the folder of its point."""
    output = trained_output(folder, training)
    return output if training.member is None else output / str(training.member)


def _usual_output(training: TrainingFile) -> Path:
    """The `output_dir` of its file without a walk."""
    output = Path(training.output_dir)
    return output if training.member is None else output.parent


def make_point_folder(folder: Path, point: TrainingPoint, training: TrainingFile) -> None:
    """Make the folder of a point, with links to what it shares with the run of its training file. Where the disk has no
    links, the point prepares its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / POINT_FILE, {"point": point.told, "keys": point.setting.values})
    run = _usual_output(training).parent
    for name in SHARED_FOLDERS:
        shared, link = run / name, folder / name
        shared.mkdir(parents=True, exist_ok=True)  # removed, perhaps, since the link was made
        if not os.path.lexists(link):
            with contextlib.suppress(OSError):
                link.symlink_to(os.path.relpath(shared.resolve(), folder.resolve()))


def is_in_point(folder: Path) -> bool:
    """Whether a folder lies in that of a point, whose keys are meant to differ from the file's."""
    return any((parent / POINT_FILE).is_file() for parent in list(folder.parents)[:2])
