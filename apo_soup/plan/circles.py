"""Stages that begin with what comes of them."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from apo_soup.config.merge import MergeFile, SoupKeys
from apo_soup.config.places import resolved
from apo_soup.config.stage_file import StageFile
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.runs.makers import stage_folder
from apo_soup.runs.outputs import output_folders

# Of a folder that a stage makes, its file and the models that it is made of.
Made = Mapping[Path, tuple[StageFile, list[str]]]


def circles(recipes: list[StageFile]) -> Iterator[str]:
    """A sentence for each circle of files of which each begins with what the one before it makes, by way of a soup or a
    merge too.

    Raises:
        UserError: a member of an apo file is wrong.
    """
    made = {
        resolved(folder): (recipe, _made_of(recipe, name))
        for recipe in recipes
        if isinstance(recipe, TrainingFile | MergeFile)
        for name, folder in output_folders(recipe).items()
    }
    told: set[Path] = set()
    ways = [_way_back(recipe, made) for recipe in recipes if isinstance(recipe, TrainingFile)]
    for passed in sorted(filter(None, ways), key=len):  # a long one may be a short one with what begins with it
        recipe = passed[0]
        if not any(each.path in told for each in passed):
            told |= {each.path for each in passed}
            way = " begins with ".join(f"{each.path.name}" for each in (*passed, recipe))
            yield (
                f"{recipe.place('model_name_or_path')}: expected a model that is there before, got a circle ({way}); "
                "name the model that one of them begins with"
            )


def _way_back(recipe: TrainingFile, made: Made) -> list[StageFile]:
    """The files from one to itself by way of others, each of which begins with what the next one makes; none where no
    way leads back.
    """
    ways: list[tuple[Path, list[StageFile]]] = [(stage_folder(recipe.model_name_or_path), [recipe])]
    seen: set[Path] = set()
    while ways:
        folder, passed = ways.pop()
        if folder in seen or folder not in made:
            continue
        seen.add(folder)
        maker, models = made[folder]
        if maker is recipe:
            if len(passed) > 1:
                return passed
            continue
        ways += [(stage_folder(model), [*passed, maker]) for model in models]
    return []


def _made_of(recipe: StageFile, name: str) -> list[str]:
    """The models that a stage's folder is made of."""
    from merge.mergekit_names import named_models, resolved_model, with_names_as_text

    if isinstance(recipe, TrainingFile):
        return [recipe.model_name_or_path]
    assert isinstance(recipe, MergeFile)
    if name == "soup":
        members = (recipe.soup or SoupKeys()).members
        return [str(Path(recipe.output_dir) / "apo" / one) for one in (members if isinstance(members, list) else ["1"])]
    models: list[str] = []
    if name == "merged" and recipe.merge is not None:
        with suppress(UserError):  # which is told where the models are looked at
            given = with_names_as_text(recipe.merge, recipe.place("merge"))
            for model, key in named_models(given).items():
                models += resolved_model(model, recipe, key).split("+")
    return models
