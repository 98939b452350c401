"""`apo-soup prepare --config F` and `apo-soup preview --config F`: see apo_soup/data/prepare.py and preview.py."""

import json
from pathlib import Path

from apo_soup.config.kinds import stage_of_file
from apo_soup.config.recipe import Recipe, load
from apo_soup.errors import UserError
from apo_soup.models.libraries import quiet_libraries
from apo_soup.runs.inputs import training_inputs


def made_pairs(recipe: Recipe) -> Recipe:
    """The pairs that a pairs file has made, as an apo file would read them with one side's tokenizer.

    Raises:
        UserError: none are made yet, or both sides are endpoints, which give no tokenizer.
    """
    files = sorted(Path(recipe.need("output_dir")).glob("train.*"))
    if not files:
        raise UserError(f"{recipe.path}: no pairs in {recipe.need('output_dir')} yet; run `make pairs` first")
    local = [recipe.values[side] for side in ("strong", "weak") if "base_url" not in recipe.values[side]]
    if not local:
        raise UserError(f"{recipe.path}: both sides are endpoints; preview an apo file that reads {files[0]}")
    tokenizer = {"model_name_or_path": local[0]["model"], "chat_template": local[0].get("chat_template")}
    return Recipe(recipe.path, "apo", {**tokenizer, "dataset_mixture": {"datasets": [{"id": str(files[0])}]}}, {})


def prepare_rows(config: Path, overrides: list[str]) -> None:
    """Write the training sequences of a mid, sft or apo file, and print the table of what is in them."""
    recipe = opened(config, overrides)
    quiet_libraries()
    from apo_soup.data.prepare import prepare
    from apo_soup.data.statistics import show
    from apo_soup.models.tokenizer import recipe_tokenizer

    folder = prepare(recipe, recipe_tokenizer(recipe))
    print(show(json.loads((folder / "stats.json").read_text())))
    print(folder)


def preview_rows(config: Path, rows: int, overrides: list[str]) -> None:
    """Print rows as the model will see them, trained tokens coloured; of a pairs file, the pairs it made."""
    recipe = opened(config, overrides)
    quiet_libraries()
    from apo_soup.data.preview import preview
    from apo_soup.models.tokenizer import recipe_tokenizer

    preview(recipe, recipe_tokenizer(recipe), rows)


def opened(config: Path, overrides: list[str]) -> Recipe:
    """The file, with its rows and model known to be there and its notes told."""
    recipe = load(config, stage_of_file(config) or "sft", overrides)
    if recipe.stage == "pairs":
        recipe = made_pairs(recipe)
    training_inputs(recipe)
    for note in recipe.notes:
        print(note)
    return recipe
