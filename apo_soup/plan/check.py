"""`apo-soup check RECIPE_DIR`: every error of a recipe at once, and what its stages will need."""

from pathlib import Path

from apo_soup.config.kinds import stage_of_file
from apo_soup.config.recipe import Recipe, load
from apo_soup.errors import UserError
from apo_soup.runs.inputs import is_local
from apo_soup.tables import text_table


def check_recipe(folder: Path) -> tuple[list[Recipe], list[str]]:
    """Load every stage file of a recipe; returns the good ones and one message for each thing that is wrong."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such recipe folder")
    recipes, problems = [], []
    for file in sorted(folder.glob("*.yaml")):
        stage = stage_of_file(file)
        if stage is None:
            continue
        try:
            recipe = load(file, stage)
            if stage == "apo":
                from apo_soup.runs.members import member_recipes

                member_recipes(recipe)
            recipes.append(recipe)
        except UserError as error:
            problems += [line.strip() for line in str(error).splitlines()]
    if not recipes and not problems:
        problems.append(f"{folder}: no stage file (mid.yaml, sft.yaml, apo.yaml, merge.yaml, eval.yaml) in it")
    return recipes, problems


def describe(recipes: list[Recipe]) -> str:
    """A table of the training files: model, data sources, tokens an optimiser step on one process."""
    rows = []
    for recipe in recipes:
        if recipe.stage not in ("sft", "apo"):
            continue
        values = recipe.values
        sources = values.get("dataset_mixture", {}).get("datasets", [])
        local = sum(is_local(s["id"]) for s in sources)
        rows_a_step = values.get("per_device_train_batch_size", 8) * values.get("gradient_accumulation_steps", 1)
        unit = "pairs" if recipe.stage == "apo" else "sequences"
        rows.append(
            [
                recipe.path.name,
                str(values.get("model_name_or_path")),
                f"{len(sources)} ({local} local)",
                f"{rows_a_step} {unit} x {values.get('max_length', 1024)}",
                str(values.get("learning_rate", "default")),
                str(len(values.get("members") or [1])) if recipe.stage == "apo" else "1",
            ]
        )
    return text_table(["file", "model", "sources", "a step and process", "learning rate", "runs"], rows) if rows else ""
