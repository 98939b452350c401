"""Load a stage file: read it, lay the command line over it, map keys of older releases, check every key.

Nothing here imports torch, so a mistake is told in well under a second, and all mistakes of a file are told at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from apo_soup.config.dataset_keys import map_dataset_keys, orpo_problems
from apo_soup.config.given import Given
from apo_soup.config.key_places import places_of_key
from apo_soup.config.places import settle_paths
from apo_soup.config.problems import in_file_order, meant_key, sentence, unknown_key
from apo_soup.config.recipe_file import given_with_shared, name_stages, shared_keys
from apo_soup.config.renamed import RENAMED, RENAMED_IN_EVAL, map_renamed
from apo_soup.config.stage_file import StageFile, nested
from apo_soup.config.training import TrainingFile
from apo_soup.config.typed_keys import typed_keys
from apo_soup.errors import UserError, need_file, told_together

if TYPE_CHECKING:
    from apo_soup.config.apo import ApoFile
    from apo_soup.config.base_model import BaseModelFile
    from apo_soup.config.data import DataFile
    from apo_soup.config.eval import EvalFile
    from apo_soup.config.merge import MergeFile
    from apo_soup.config.pairs import PairsFile
    from apo_soup.config.sft import SftFile
    from apo_soup.config.sweep import SweepFile
    from apo_soup.config.traces import TracesFile

# Kind of a stage file -> module and class; imported when it is asked for, since TRL's keys take a while to read.
KINDS = {
    "sft": ("apo_soup.config.sft", "SftFile"),
    "apo": ("apo_soup.config.apo", "ApoFile"),
    "pairs": ("apo_soup.config.pairs", "PairsFile"),
    "traces": ("apo_soup.config.traces", "TracesFile"),
    "merge": ("apo_soup.config.merge", "MergeFile"),
    "eval": ("apo_soup.config.eval", "EvalFile"),
    "data": ("apo_soup.config.data", "DataFile"),
    "base": ("apo_soup.config.base_model", "BaseModelFile"),
    "sweep": ("apo_soup.config.sweep", "SweepFile"),
}


@overload
def load(
    path: str | Path, kind: Literal["sft"], overrides: Sequence[str] = (), options: Sequence[str] = ()
) -> SftFile: ...
@overload
def load(
    path: str | Path, kind: Literal["apo"], overrides: Sequence[str] = (), options: Sequence[str] = ()
) -> ApoFile: ...
@overload
def load(
    path: str | Path, kind: Literal["pairs"], overrides: Sequence[str] = (), options: Sequence[str] = ()
) -> PairsFile: ...
@overload
def load(
    path: str | Path, kind: Literal["traces"], overrides: Sequence[str] = (), options: Sequence[str] = ()
) -> TracesFile: ...
@overload
def load(
    path: str | Path, kind: Literal["merge"], overrides: Sequence[str] = (), options: Sequence[str] = ()
) -> MergeFile: ...
@overload
def load(
    path: str | Path, kind: Literal["eval"], overrides: Sequence[str] = (), options: Sequence[str] = ()
) -> EvalFile: ...
@overload
def load(
    path: str | Path, kind: Literal["data"], overrides: Sequence[str] = (), options: Sequence[str] = ()
) -> DataFile: ...
@overload
def load(
    path: str | Path, kind: Literal["base"], overrides: Sequence[str] = (), options: Sequence[str] = ()
) -> BaseModelFile: ...
@overload
def load(
    path: str | Path, kind: Literal["sweep"], overrides: Sequence[str] = (), options: Sequence[str] = ()
) -> SweepFile: ...
@overload
def load(path: str | Path, kind: str, overrides: Sequence[str] = (), options: Sequence[str] = ()) -> StageFile: ...
def load(path: str | Path, kind: str, overrides: Sequence[str] = (), options: Sequence[str] = ()) -> StageFile:
    """The checked stage file at `path`, with `--key value` words laid over it.

    Args:
        options: the options that the words could have been, such as `--state`, to name the nearest to a wrong one.

    Raises:
        UserError: with everything that is wrong with it, a line each.
    """
    file = need_file(path, "configuration", "--config")
    given = given_with_shared(file, kind, overrides, options)
    recipe, problems = check_keys(kind, given)
    if recipe is None or problems:
        raise told_together(problems)
    return recipe


def file_model(kind: str) -> type[StageFile]:
    """The typed model of a kind of stage file."""
    module, name = KINDS[kind]
    model: type[StageFile] = getattr(import_module(module), name)
    return model


# Kinds of files whose names are those of several stages, in words.
OF_STAGES = {"sft": "mid and sft", "base": "the toy's base"}


def _strange_key(kind: str, given: Given, name: str, known: list[str]) -> str:
    """That a file has a key that stands elsewhere, in it or in a file of another kind, or one that nobody knows."""
    commanded = name in given.overridden
    if meant_key(name) in known:
        return unknown_key(given, name, known)
    places = [] if commanded else places_of_key(name, file_model(kind), map(str, given.values))
    if places:
        way = "move it there" if len(places) == 1 else "move it below the one that is meant"
        return sentence(given, name, f"expected it below {' or '.join(places)}, got it at the top of the file; {way}")
    # A word of the command line may be meant for an option, unless both files train.
    kinds = [one for one in KINDS if one not in (kind, "base") and (not commanded or {one, kind} == {"sft", "apo"})]
    others = [one for one in kinds if name in file_model(one).model_fields]
    if others:
        own, theirs = (OF_STAGES.get(one, one) for one in (kind, others[0]))
        return sentence(given, name, f"expected a key of {own} files, got one of {theirs} files; leave it out")
    return unknown_key(given, name, known)


def check_keys(kind: str, given: Given, member: int | None = None) -> tuple[StageFile | None, list[str]]:
    """Given keys as a stage file of a kind, and a sentence for each thing that is wrong with them.

    What stages are named by is what they make, where a `recipe.yaml` beside the file says where.

    Raises:
        UserError: `recipe.yaml` beside the file is wrong.
    """
    model = file_model(kind)
    if issubclass(model, TrainingFile):
        problems = map_renamed(given, RENAMED, pairs=kind == "apo") + map_dataset_keys(given)
        problems += orpo_problems(given) if kind == "apo" else []
    else:
        problems = map_renamed(given, RENAMED_IN_EVAL) if kind == "eval" else []
    known = list(model.model_fields)
    typed, wrong = typed_keys(model, given, lambda name: _strange_key(kind, given, name, known))
    problems += wrong
    if problems:
        return None, in_file_order(problems)
    recipe: Any = typed
    for name, keys in nested(recipe):
        keys._dotted = name
    recipe._given, recipe._member = given, member
    shared = shared_keys(given.path.parent) if kind != "base" else None
    if shared is not None:
        name_stages(recipe, shared)
    recipe._as_given = recipe.model_dump(exclude_unset=True)
    try:
        settle_paths(recipe)
    except UserError as error:
        return None, [str(error)]
    for name, keys in nested(recipe):
        prefix = f"{name}." if name else ""
        recipe.notes.extend(sentence(given, f"{prefix}{remark.key}", remark.told) for remark in keys.remarks())
    return recipe, []
