"""A longer window: the rotary positions and the longest row that a model is loaded with, in place of its own.

A model reads rows longer than those it was trained on only where the slowest rotary angles still tell places apart, so
long-context training raises their base first: SmolLM3 from 50 000 to 1.5 M at 32 k tokens, and to 5 M at 64 k. Weights
stay as they are; `config.json` of what is saved has the new values.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig, PreTrainedTokenizerBase

from apo_soup.config.training import AskedWindow, TrainingFile
from apo_soup.errors import UserError, told_by_library
from apo_soup.models.architecture import require_language_model
from apo_soup.models.earlier_adapter import base_model
from apo_soup.models.recipe_tokenizer import CONFIG_ERRORS

ROTARY = "rope_parameters"


def window_arguments(recipe: TrainingFile) -> dict[str, Any]:
    """What `from_pretrained` is given so that the recipe's model has the window that the recipe asks for; nothing where
    it asks for none.

    Raises:
        UserError: the model cannot be read, or has no positions that can be changed so.
    """
    return {} if recipe.asked_window == AskedWindow() else window_of(recipe, base_model(recipe))


def window_of(recipe: TrainingFile, model: str) -> dict[str, Any]:
    """As `window_arguments`, of a model of this name, whichever way its `config.json` writes its positions.

    Raises:
        UserError: as there.
    """
    return changed_window(recipe, config_of(recipe, model).to_dict())


def config_of(recipe: TrainingFile, model: str) -> PreTrainedConfig:
    """The configuration of a model of this name, loaded as the recipe says.

    Raises:
        UserError: it cannot be read, or is of no language model or of other weights.
    """
    revision = recipe.model_revision if recipe.gives("model_revision") else None
    where = recipe.place("model_name_or_path")
    if Path(model).is_dir():  # its sentence names the key, where transformers' may name none
        require_language_model(Path(model), where, recipe.trust_remote_code)
    with told_by_library(where, CONFIG_ERRORS, expected="a model that transformers loads", way="name another"):
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            model, revision=revision, trust_remote_code=recipe.trust_remote_code
        )
    return config


def changed_window(recipe: TrainingFile, config: Mapping[str, Any]) -> dict[str, Any]:
    """As `window_arguments`, of a model whose `config.json` holds `config`.

    Raises:
        UserError: it has no positions that can be changed so.
    """
    if "text_config" in config:
        raise _refused(recipe, config, "a model of text alone", "whose positions lie in a text_config")
    changed: dict[str, Any] = {}
    asked = recipe.asked_window
    if asked.rope_theta is not None:
        changed[ROTARY] = {**_rotary(recipe, config), "rope_theta": asked.rope_theta}
    if asked.positions is not None:
        own = config.get("max_position_embeddings")
        if not isinstance(own, int):
            key = "max_position_embeddings"
            raise _refused(recipe, config, "a model whose config.json has that key", "whose does not", key=key)
        if asked.positions < own:
            where, model = recipe.place("max_position_embeddings"), recipe.model_name_or_path
            told = f"expected at least {own:,}, the window that {model} has, got {asked.positions:,}"
            raise UserError(f"{where}: {told}; raise it, or leave the key out")
        _rotary(recipe, config)
        changed["max_position_embeddings"] = asked.positions
    return changed


def _rotary(recipe: TrainingFile, config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The model's own rotary positions.

    Raises:
        UserError: it has none, or some that are scaled, or differ between its layers.
    """
    own, way = config.get(ROTARY), f"write {ROTARY} into model_init_kwargs, as a whole"
    if not isinstance(own, Mapping):
        raise _refused(recipe, config, "a model with rotary positions", "which has others")
    if any(isinstance(part, Mapping) for part in own.values()):
        raise _refused(recipe, config, "one base of rotary positions", "which has one for each kind of layer", way)
    kind = own.get("rope_type", "default")
    if kind != "default":
        raise _refused(recipe, config, "rotary positions that are not scaled", f"whose are ({kind})", way)
    return own


def _refused(
    recipe: TrainingFile,
    config: Mapping[str, Any],
    expected: str,
    got: str,
    way: str = "leave the key out",
    key: str | None = None,
) -> UserError:
    """The sentence about a model whose window cannot be changed, at `key`, else at the first that asks for it."""
    key = key or ("max_position_embeddings" if recipe.asked_window.rope_theta is None else "rope_theta")
    model = f"{recipe.model_name_or_path} ({config.get('model_type')})"
    return UserError(f"{recipe.place(key)}: expected {expected}, got {model}, {got}; {way}")


def widen(tokenizer: PreTrainedTokenizerBase, recipe: TrainingFile) -> None:
    """Let a tokenizer that is saved beside the model know the recipe's window, where it has a shorter one."""
    positions = recipe.asked_window.positions
    if positions is not None:
        tokenizer.model_max_length = max(tokenizer.model_max_length, positions)
