"""A training file whose model is an adapter's folder: the adapter goes on being trained, on the base that it names.

Such a folder is what a stage leaves in `adapter/`, or any that peft has saved. It has `adapter_config.json` and no
`config.json`; the model is the base with the adapter on it.
"""

from pathlib import Path

from apo_soup.config.in_words import as_written
from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.runs.sources import adapter_base_name


def earlier_adapter(recipe: TrainingFile) -> Path | None:
    """The folder of the adapter that a file goes on with; None where its model is a whole one, or is not there yet."""
    folder = Path(recipe.model_name_or_path).expanduser()
    adapted = (folder / "adapter_config.json").is_file() and not (folder / "config.json").is_file()
    return folder if adapted else None


def base_model(recipe: TrainingFile) -> str:
    """The model whose weights a file loads: its own, or the base of the adapter that it goes on with.

    Raises:
        UserError: the adapter does not say what its base is.
    """
    adapter = earlier_adapter(recipe)
    if adapter is None:
        return recipe.model_name_or_path
    where = recipe.place("model_name_or_path")
    base = adapter_base_name(adapter, where)
    if base is None:
        raise UserError(
            f"{where}: {adapter}/adapter_config.json: base_model_name_or_path: expected a folder or a Hub id, got "
            "none; write the adapter's base there"
        )
    return base


def earlier_adapter_problem(recipe: TrainingFile) -> str | None:
    """A sentence where a file's keys do not go with an adapter as its model."""
    adapter = earlier_adapter(recipe)
    if adapter is None:
        return None
    if not recipe.use_peft:
        return (
            f"{recipe.place('model_name_or_path')}: expected use_peft: true beside an adapter, which is then trained "
            f"further, or a whole model, got {recipe.model_name_or_path} alone; write it, or name the model that the "
            "adapter was merged into"
        )
    for name, value in recipe.given_with("adapter").items():
        return (
            f"{recipe.place(name)}: expected no such key, since {recipe.model_name_or_path} is an adapter and goes on "
            f"with its own, got {as_written(value)}; leave the key out, or begin with a whole model"
        )
    if recipe.new_tokens or recipe.embedding_multiple is not None:
        key = recipe.new_tokens[0].key if recipe.new_tokens else "resize_embeddings"
        return (
            f"{recipe.place(key)}: expected no new tokens, since {recipe.model_name_or_path} is an adapter on a base "
            "without them, got some; leave them out, or begin with a whole model"
        )
    return None
