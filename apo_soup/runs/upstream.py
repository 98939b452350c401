"""What a stage that reads the folders of others is to say of them: the one place where all stages look."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from apo_soup.config.stage_file import StageFile
from apo_soup.errors import UserError
from apo_soup.runs.arguments import arguments_of, arguments_told
from apo_soup.runs.manifest import model_manifest
from apo_soup.runs.model_files import changed_file
from apo_soup.runs.named_paths import named_paths
from apo_soup.runs.walked import is_in_point

# `FILE:LINE: KEY`, and the model, rows or other file that is read there.
Read = tuple[str, Path]


def read_by_file(recipe: StageFile, without: str = "") -> list[Read]:
    """What the keys of a file name, but those below the key `without`."""
    named = ((key, path) for key, path in named_paths(recipe) if not without or key.partition(".")[0] != without)
    return [(recipe.place(key), path) for key, path in named]


def told_of_upstream(reads: Iterable[Read]) -> Iterator[str]:
    """Lines on folders of stages that are no longer as they were made, or were made with arguments of one command, each
    folder once; none on what no stage made.
    """
    seen = set()
    for where, path in reads:
        folder = path if path.is_dir() else path.parent
        if folder not in seen and path.exists():
            seen.add(folder)
            yield from (f"{where}: {line}" for line in _told(folder))


def _told(folder: Path) -> Iterator[str]:
    try:
        manifest = model_manifest(folder)
    except UserError as error:
        yield f"{error}; what is there is built on"
        return
    if not manifest or "stage" not in manifest:
        return
    stage = str(manifest["stage"])
    changed = changed_file(folder, manifest)
    if changed:
        yield f"{folder} is not as the stage {stage} made it ({changed}); what is there is built on, or make it again"
    arguments = arguments_of(manifest)
    if arguments and not is_in_point(folder):
        yield f"{arguments_told([stage], arguments, 'its file')}; what is there is built on, or make it again"
