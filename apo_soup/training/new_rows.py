"""Rows of new tokens under an adapter, which by itself trains no embeddings."""

from dataclasses import dataclass, replace
from typing import Any

from peft import LoraConfig, PeftModel
from peft.utils.other import TrainableTokensWrapper
from transformers import PreTrainedTokenizerBase, Trainer
from transformers.integrations import is_deepspeed_zero3_enabled

from apo_soup.config.training import TrainingFile
from apo_soup.errors import UserError
from apo_soup.models.earlier_adapter import base_model
from apo_soup.models.recipe_tokenizer import new_token_ids
from apo_soup.models.without_weights import model_without_weights
from apo_soup.progress import say


@dataclass(frozen=True)
class EmbeddingNames:
    """The names of a model's embeddings and of its head, and whether the head is the embeddings."""

    embeddings: str
    head: str
    tied: bool


def train_new_rows(
    adapter: LoraConfig, recipe: TrainingFile, base: str, tokenizer: PreTrainedTokenizerBase
) -> LoraConfig:
    """The adapter's configuration with the rows of new tokens among what it trains, in the embeddings and in a head of
    its own. Layers that the recipe trains whole, or adapts, are left to it.

    Args:
        base: the model that is trained, as `model_to_load` gives it.

    Raises:
        UserError: the recipe names one of two tied layers. PEFT unties them, and the rows of the other would stay.
    """
    ids = new_token_ids(recipe, tokenizer) if recipe.new_tokens or recipe.embedding_multiple is not None else []
    if not ids:
        return adapter
    names = _embedding_names(recipe, base)
    left = [name for name in (names.embeddings, names.head) if not _is_trained(adapter, name)]
    if names.tied and len(left) == 1:
        key = "lora_modules_to_save" if adapter.modules_to_save else "lora_target_modules"
        raise UserError(
            f"{recipe.place(key)}: expected both {names.embeddings} and {names.head} or none of them, for they "
            f"are tied and the model has {len(ids):,} new tokens, got one without {left[0]}; leave both out, and the "
            "rows of the new tokens are trained"
        )
    layers = left[:1] if names.tied else left
    if not layers:
        return adapter
    say(f"adapter: the rows of {len(ids):,} new tokens are trained too, in {' and '.join(layers)}")
    return replace(adapter, trainable_token_indices=dict.fromkeys(layers, ids))


def settle_adapter(trainer: Trainer, recipe: TrainingFile) -> None:
    """Give a trainer's model, where it is an adapter, the name of the base that the recipe knows, and a head that shows
    its bias: TRL's loss reads that, and PEFT's layer around a head with trained rows does not pass it on.

    Raises:
        UserError: rows are to be trained in weights that FSDP or DeepSpeed shards, which PEFT cannot.
    """
    model = trainer.model
    if not isinstance(model, PeftModel):
        return
    adapter: Any = model.peft_config[model.active_adapter]
    if adapter.trainable_token_indices and (trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled()):
        raise UserError(
            f"{recipe.place('use_peft')}: expected weights that are whole on every process, for an adapter "
            "trains rows of new tokens in them, got sharded ones; launch with recipes/accelerate/ddp.yaml, or leave "
            "use_peft out"
        )
    adapter.base_model_name_or_path = base_model(recipe)
    base: Any = model.get_base_model()
    base.name_or_path = base.config.name_or_path = base_model(recipe)  # for the adapter's card
    head = model.get_output_embeddings()
    if isinstance(head, TrainableTokensWrapper):
        head.__dict__["bias"] = getattr(head.original_module, "bias", None)  # no parameter of the wrapper's own


def _embedding_names(recipe: TrainingFile, base: str) -> EmbeddingNames:
    """The names of the layers that have a row a token."""
    model = model_without_weights(recipe, base)
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    names = {module: name for name, module in model.named_modules()}
    return EmbeddingNames(names[embeddings], names[head], head.weight is embeddings.weight)


def _is_trained(adapter: LoraConfig, layer: str) -> bool:
    """Whether an adapter's configuration names a layer, by its last word or whole."""
    named = [*(adapter.modules_to_save or []), *_listed(adapter.target_modules)]
    return any(layer == name or layer.endswith(f".{name}") for name in named)


def _listed(modules: list[str] | set[str] | str | None) -> list[str]:
    return [modules] if isinstance(modules, str) else list(modules or [])
