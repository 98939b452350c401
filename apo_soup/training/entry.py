"""The opening of the training stages: the output folder that a file asks for, with its fingerprint."""

from pathlib import Path

from apo_soup.config.recipe import Recipe
from apo_soup.runs.inputs import semantic, training_inputs
from apo_soup.runs.stage import Stage


def training_stage(recipe: Recipe) -> Stage:
    """The output folder of a training file with its fingerprint; raises UserError for missing inputs."""
    folder = Path(recipe.need("output_dir"))
    name = folder.name if recipe.member is None else f"apo/{recipe.member}"
    config = {k: v for k, v in semantic(recipe.values).items() if k not in ("members", "checkpoints")}
    return Stage(name, folder, config, training_inputs(recipe))
