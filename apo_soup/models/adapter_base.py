"""The base of an adapter that is named where a model is: it gives the weights, and the tokenizer where there is none
beside the adapter.
"""

import json
from pathlib import Path

from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.runs.sources import adapter_base_name, is_local

_ADAPTER, _CONFIG = "adapter_config.json", "config.json"


def base_of_adapter(model: str, where: str, revision: str | None = None) -> str | None:
    """The base that an adapter names, a folder or an id of the Hub; None for a whole model, and where it names none or
    the Hub is not heard.

    Raises:
        UserError: the settings of an adapter that lies here cannot be read.
    """
    if is_local(model):
        folder = Path(model).expanduser()
        alone = (folder / _ADAPTER).is_file() and not (folder / _CONFIG).is_file()
        return adapter_base_name(folder, where) if alone else None
    settings = _file_on_hub(model, _ADAPTER, revision)
    if settings is None or _file_on_hub(model, _CONFIG, revision) is not None:
        return None
    try:
        base = json.loads(settings.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):  # what loads it tells
        return None
    return base if isinstance(base, str) and base else None


def _file_on_hub(model: str, name: str, revision: str | None) -> Path | None:
    """A file of a model of the Hub, fetched; None where it has none, or is not heard."""
    from transformers.utils import cached_file  # late: it imports torch

    try:
        found = cached_file(model, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    except (OSError, ValueError):
        return None
    return Path(found) if found else None


def require_no_hub_adapter(recipe: TrainingFile) -> None:
    """Refuse an adapter of the Hub as the model of a training: transformers would load it into its base, and what is
    trained and saved then is neither the adapter nor the whole model.

    Raises:
        UserError: with the way to go on with it.
    """
    name, where = recipe.model_name_or_path, recipe.place("model_name_or_path")
    base = None if is_local(name) else base_of_adapter(name, where, recipe.model_revision)
    if base is not None:
        told = f"expected a whole model, or the folder of an adapter, got {name}, which is an adapter of the Hub"
        raise UserError(f"{where}: {told}; {way_from_hub(name)}; or begin with its base, {base}")


def way_from_hub(name: str) -> str:
    """How a training goes on with an adapter of the Hub."""
    own = name.rpartition("/")[2]
    return f"fetch it with `hf download {name} --local-dir {own}`, and write ./{own} and use_peft: true"
