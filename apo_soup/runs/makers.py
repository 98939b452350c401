"""Which stage file of a recipe makes a model or rows that are not there yet."""

import glob
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from apo_soup.config.apo import ApoFile
from apo_soup.config.given import Given
from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.members import member_recipes
from apo_soup.config.merge import MergeFile, SoupKeys
from apo_soup.config.places import resolved, settled
from apo_soup.config.recipe_file import given_unread, given_with_shared, shared_keys
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.runs.members import FOLDER

# Where a stage that trained an adapter keeps it, below the merged model.
ADAPTER = "adapter"
MAKE_ROWS = ("data", "pairs", "traces")
STAGES_OF_A_RUN = ("extend", "mid", "sft", "soup", "merged")


@dataclass(frozen=True)
class Upstream:
    """Where the tokenizer of a model comes from: the files that lay templates over it, the nearest first, and the model
    at their beginning, which is there or is nowhere to be made.
    """

    files: tuple[TrainingFile, ...]
    model: str


def upstream(recipe: TrainingFile, anew: bool = False) -> Upstream:
    """The way from a training file's model up to one that is on disk or on the Hub, through the files beside it.

    Args:
        anew: what those files have made already is passed by, for they would make it again where they have changed.

    Raises:
        UserError: a file on the way is wrong, or merges models with a tokenizer that is not there to be seen.
    """
    folder = recipe.path.parent
    files: list[TrainingFile] = []
    model, passed = recipe.model_name_or_path, set[Path]()
    while (anew or not Path(model).expanduser().exists()) and resolved(model) not in passed:
        passed.add(resolved(model))
        made = _maker(model, folder)
        if made is None:
            break
        if isinstance(made, TrainingFile):
            files.append(made)
            model = made.model_name_or_path
        else:
            model = _tokenizer_parent(made, resolved(model).name)
    return Upstream(tuple(files), model)


def stage_folder(model: str) -> Path:
    """The folder that a stage makes of which a model is the whole, or the adapter that lies in it."""
    place = resolved(model)
    return place.parent if place.name == ADAPTER else place


def missing_sources(recipe: TrainingFile) -> dict[int, Path]:
    """The sources whose rows are not there and will be made by a file beside the recipe, which has not run yet: their
    numbers, and the files.
    """
    missing = {}
    for number, source in enumerate(recipe.dataset_mixture.datasets):
        if glob.glob(str(Path(source.id).expanduser()), recursive=True):
            continue
        place = resolved(source.id)
        makers = (
            made
            for made in outputs_of_files(recipe.path.parent)
            if stage_of_file(made[0]) in ("data", "pairs", "traces")
        )
        for file, output in makers:
            if place.is_relative_to(output) and not output.exists():
                missing[number] = file
    return missing


def outputs_of_files(folder: Path) -> Iterator[tuple[Path, Path]]:
    """The stage files of a recipe with the folders they write, the innermost first. A file that cannot be read writes
    what follows from `recipe.yaml`; without one it is left out.
    """
    yield from ((given.path, output) for given, output in outputs_given(folder))


def outputs_given(folder: Path) -> Iterator[tuple[Given, Path]]:
    """The keys of a recipe's stage files with the folders they write; as `outputs_of_files`."""
    found = []
    for file in sorted(folder.glob("*.yaml")):
        try:
            kind = stage_of_file(file)
            given = _given(file, kind) if kind else None
            if given and given.output_dir:
                found.append((given, resolved(given.output_dir)))
        except (UserError, OSError, ValueError, RuntimeError):  # recipe.yaml, no name of a folder, a home nobody has
            continue
    yield from sorted(found, key=lambda pair: -len(pair[1].parts))


def _given(file: Path, kind: str) -> Given:
    try:
        return given_with_shared(file, kind)
    except UserError:  # which whoever reads the file tells
        return given_unread(file, kind)


def _maker(model: str, folder: Path) -> TrainingFile | MergeFile | None:
    """The checked file that makes a model folder, or the folder whose `adapter/` it is; a member's with its own keys;
    None where no file does.
    """
    place = stage_folder(model)
    for file, output in outputs_of_files(folder):
        kind = stage_of_file(file)
        if kind == "sft" and place == output:
            return load(file, "sft")
        if kind == "apo" and place.parent == output:
            return _member(load(file, "apo"), place.name)
        if kind == "merge" and place.parent == output and place.name in ("soup", "merged"):
            return load(file, "merge")
    return None


def _member(recipe: ApoFile, name: str) -> ApoFile | None:
    """The keys of the soup member in a folder of this name; None where the file has no such member."""
    match, members = FOLDER.fullmatch(name), member_recipes(recipe)
    number = int(match[1]) if match else 0
    return members[number - 1] if 1 <= number <= len(members) else None


def _tokenizer_parent(recipe: MergeFile, name: str) -> str:
    """The model whose tokenizer a merge takes: its base, or the first that it names.

    Raises:
        UserError: the merge names its tokenizer itself.
    """
    run = Path(recipe.output_dir)
    if name == "soup":
        members = (recipe.soup or SoupKeys()).members
        first = members[0] if isinstance(members, list) and members else "1"
        return str(run / "apo" / first) if FOLDER.fullmatch(first) else settled(recipe, "soup.members", first)
    merge = recipe.merge
    own = merge.own_tokenizer_key if merge else None
    first_model = merge.models[0].model if merge and merge.models else None
    model = (merge.base_model if merge else None) or first_model
    if own or not isinstance(model, str):
        what = f"names a {own} of its own" if own else "names no first model"
        made = f"make it: `apo-soup run merge {shlex.quote(str(recipe.path.parent))}`"
        raise UserError(
            f"{recipe.place('merge')}: expected a merge whose tokenizer is that of its first model, got one "
            f"that {what}, and {run / name} is not there yet; {made}"
        )
    shared = shared_keys(recipe.path.parent) if model == "base" else None
    if shared is not None and shared.keys.model is not None:
        return settled(recipe, "merge", shared.keys.model)
    staged = model in STAGES_OF_A_RUN or model.startswith("apo/")
    return str(run / model) if staged else settled(recipe, "merge", model)
