"""What a word of the command line names: a recipe, or a model."""

from pathlib import Path

from apo_soup.config.kinds import stage_of_file
from apo_soup.errors import UserError
from apo_soup.resources import recipe_folder, shipped_names


def recipe_of(model: str) -> Path | None:
    """The recipe folder that MODEL names, or None where it names a model: a folder, or an id of the Hub.

    Raises:
        UserError: no recipe of this name is shipped, or the recipe has no suite.
    """
    folder = Path(model)
    if folder.is_dir():
        if (folder / "eval.yaml").is_file():
            return folder
        if any(map(stage_of_file, folder.glob("*.yaml"))) and not (folder / "config.json").is_file():
            raise UserError(
                f"{model}: expected a recipe with eval.yaml, which names its models, got one without; add it, or name "
                "the folder of a model, such as that of a stage of its run"
            )
        return None
    return recipe_folder(model) if model in shipped_names() else None


def named_model(model: str, stage: str) -> tuple[str, str | None, bool]:
    """What MODEL and --stage name: a model, the template laid over it, and whether code that comes with it may run.

    Raises:
        UserError: the recipe has no suite, or its suite is wrong or has no such model.
    """
    from apo_soup.evals.chat import model_of_recipe

    recipe = recipe_of(model)
    return model_of_recipe(recipe, stage) if recipe else (model, None, False)
