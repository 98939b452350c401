"""The files of a recipe's folder: names that no stage reads, and runs that another recipe writes into."""

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

from apo_soup.config.kinds import STAGE_OF_FILE, stage_name, stage_of_file
from apo_soup.config.nearest import near_word
from apo_soup.config.places import resolved
from apo_soup.config.stage_file import StageFile
from apo_soup.runs.makers import outputs_of_files
from apo_soup.runs.manifest import read_manifest

# How like the name of a stage a file's must be to be taken for a misspelt one.
ALIKE = 0.8


def misspelt_files(folder: Path) -> Iterator[str]:
    """A sentence for each file that was to be a stage's, by its name, and that no stage reads."""
    for file in sorted(folder.iterdir()):
        read = file.suffix == ".yaml" and stage_of_file(file) is not None
        if read or file.suffix.lower() not in (".yaml", ".yml") or file.is_dir():
            continue
        name = stage_name(file).lower()
        near = name if name in STAGE_OF_FILE else near_word(name, STAGE_OF_FILE, ALIKE)
        whole = near and f"{near}{file.stem[len(name) :]}.yaml"
        if near and (near != stage_name(file) or file.suffix != ".yaml"):
            yield (
                f"{file}: expected the name of a stage's file ({', '.join(STAGE_OF_FILE)}, with .yaml behind it), got "
                f"{file.name}, which no stage reads; name it {whole}, or move it out of the recipe's folder"
            )


def shared_runs(folder: Path) -> Iterator[str]:
    """A sentence for each folder that a stage of this recipe makes, and one of a recipe beside it too."""
    own = {output: file for file, output in outputs_of_files(folder)}
    for other in sorted(folder.resolve().parent.iterdir()):
        if not other.is_dir() or other.resolve() == folder.resolve():
            continue
        for file, output in outputs_of_files(other):
            if output in own:
                yield (
                    f"{own[output]}: output_dir: expected a folder of this recipe's own, got {output.name} of the run "
                    f"{resolved(output).parent.name}, which {other.name}/{file.name} makes too; give every output_dir "
                    "of one of the two recipes another run's name"
                )


def made_by_another(recipe: StageFile, folders: Mapping[str, Path]) -> Iterator[str]:
    """A note for each finished folder that a file of another recipe made, and that this one would replace.

    Args:
        folders: what the file makes, by the stage's name.

    Raises:
        UserError: a folder's manifest cannot be read.
    """
    for folder in folders.values():
        manifest = read_manifest(folder) if folder.is_dir() else None
        try:
            words = shlex.split(str((manifest or {}).get("command", "")))
        except ValueError:  # of an older release, which did not quote
            continue
        config = words[words.index("--config") + 1 :][:1] if "--config" in words else []
        maker = resolved(config[0]) if config else None
        if maker is not None and maker.is_file() and maker.parent != resolved(recipe.path).parent:
            yield (
                f"{recipe.place('output_dir')}: {folder} was made by {config[0]}, and a run of this recipe takes its "
                "place; where that is not meant, give every output_dir another run's name"
            )
