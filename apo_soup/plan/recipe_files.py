"""The files of a recipe's folder: names that no stage reads, and runs that another recipe writes into."""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from apo_soup.config.given import Given
from apo_soup.config.kinds import STAGE_OF_FILE, stage_name, stage_of_file
from apo_soup.config.nearest import near_word
from apo_soup.config.places import resolved
from apo_soup.config.stage_file import StageFile
from apo_soup.runs.makers import outputs_given
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
        names = (*STAGE_OF_FILE, "recipe", "slurm")
        near = name if name in names else near_word(name, names, ALIKE)
        whole = near and f"{near}{file.stem[len(name) :]}.yaml"
        if near in ("recipe", "slurm") and file.stem.lower() != name:  # of which there are no others
            continue
        if near and (near != stage_name(file) or file.suffix != ".yaml"):
            yield (
                f"{file}: expected the name of a stage's file ({', '.join(names)}, with .yaml behind it), got "
                f"{file.name}, which no stage reads; name it {whole}, or move it out of the recipe's folder"
            )


def shared_runs(folder: Path) -> Iterator[str]:
    """A sentence for each folder that a stage of this recipe makes, and others of recipes beside it too; one alone
    where the name in `recipe.yaml` says so of all. A recipe in whose own folder the work is done has outputs there, as
    those beside it have in theirs; only what lies elsewhere can be another's.
    """
    home = folder.resolve()
    inside = Path.cwd().is_relative_to(home)
    own = {output: given for given, output in outputs_given(folder) if not (inside and output.is_relative_to(home))}
    makers: dict[Path, list[Given]] = {}
    for other in sorted(folder.resolve().parent.iterdir()):
        if other.is_dir() and other.resolve() != home:
            for given, output in outputs_given(other):
                if output in own:
                    makers.setdefault(output, []).append(given)
    named = [output for output in makers if "output_dir" in own[output].places]
    if named:
        output = max(named, key=lambda one: len(makers[one]))
        yield (
            f"{own[output].place('output_dir')}: expected a run of this recipe's own, got one where "
            f"{_told(makers[output])} its {output.name} too; give {_all_but_one(makers[output])} another name"
        )
    for output, others in makers.items():
        if output not in named:
            yield (
                f"{own[output].place('output_dir')}: expected a folder of this recipe's own, got {output.name} of the "
                f"run {output.parent.name}, which {_told(others)} too; give every output_dir of "
                f"{_all_but_one(others)} another run's name"
            )


def _told(makers: Sequence[Given]) -> str:
    """Files of other recipes, as what makes something."""
    *before, last = (f"{given.path.resolve().parent.name}/{given.path.name}" for given in makers)
    return f"{', '.join(before)} and {last} make" if before else f"{last} makes"


def _all_but_one(others: Sequence[Given]) -> str:
    return "one of the two recipes" if len(others) == 1 else "all but one of these recipes"


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
            place = recipe.place("output_dir")
            way = (
                "give the recipe another name"
                if place.endswith(": name")
                else "give every output_dir another run's name"
            )
            yield (
                f"{place}: {folder} was made by {config[0]}, and a run of this recipe takes its place; where that is "
                f"not meant, {way}"
            )
