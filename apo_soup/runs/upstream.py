"""What a stage that builds on the folder of another is to say of it."""

from collections.abc import Iterator
from pathlib import Path

from apo_soup.runs.arguments import arguments_of, arguments_told
from apo_soup.runs.manifest import read_manifest
from apo_soup.runs.model_files import changed_file


def told_of_upstream(folder: Path) -> Iterator[str]:
    """Lines on a finished folder that is no longer as its stage made it, or was made with arguments of one command;
    none on a model that no stage made.

    Raises:
        UserError: its manifest cannot be read.
    """
    manifest = read_manifest(folder) if folder.is_dir() else None
    if not manifest or "stage" not in manifest:
        return
    stage = str(manifest["stage"])
    changed = changed_file(folder, manifest)
    if changed:
        yield f"{folder} is not as the stage {stage} made it ({changed}); what is there is built on, or make it again"
    arguments = arguments_of(manifest)
    if arguments:
        yield f"{arguments_told([stage], arguments, 'its file')}; what is there is built on, or make it again"
