"""Whether processes can share the packed rows of a supervised training (`apo_soup/models/shared_rows.py`), and how.

Each is trained on its places of a row, so the loss is the one of `sft/trained_places.py` or none: an option or a model
for which rows are computed whole by TRL is refused here. What is held out is computed whole, by a forward pass alone.
"""

from typing import Any, cast

from peft import PeftModel
from transformers.utils.generic import is_flash_attention_requested
from trl import SFTConfig, SFTTrainer

from apo_soup.config.shared_rows import heads_problem, unshared
from apo_soup.models.shared_rows import NotShared, RowSharing, share_attention
from apo_soup.private import attention_implementation, lets_attention_be_set
from sft.trained_places import add_trained_places
from sft.which_path import is_exact, of_main_process, probe_fault, runs_in_tiles, set_by_documents, trl_reason


def share_rows(trainer: SFTTrainer, sharing: RowSharing, packed: bool) -> None:
    """Let a trainer that is not wrapped yet train on rows that processes share. All ranks call it and go one way.

    Args:
        trainer: with its model as transformers or PEFT made it.
        packed: a row may hold several documents.

    Raises:
        NotShared: options or the model do not let them.
    """
    wrapped: Any = trainer.model
    model: Any = wrapped.get_base_model() if isinstance(wrapped, PeftModel) else wrapped
    arguments = cast(SFTConfig, trainer.args)
    text, stock = model.config.get_text_config(), model.forward
    reason, heads = trl_reason(arguments, model), heads_problem(text, sharing.size)
    if trainer.accelerator.parallelism_config is not None:
        reason = reason or "parallelism_config"
    if trainer.is_deepspeed_enabled:
        reason = reason or "DeepSpeed"
    if trainer.aux_loss_enabled:
        reason = reason or "a router_aux_loss_coef above 0"
    if not lets_attention_be_set(type(model)):
        reason = reason or f"{type(model).__name__}, whose attention cannot be set"
    why = unshared(reason) if reason else heads
    if why:
        raise NotShared(why)
    attention = attention_implementation(model.config)
    tiles = runs_in_tiles(trainer)
    if is_flash_attention_requested(text):
        add_trained_places(model, tiles, sharing)
    else:
        reason = set_by_documents(model, arguments.max_length) if attention == "sdpa" else f"the attention {attention}"
        if reason:
            raise NotShared(unshared(reason))
        add_trained_places(model, tiles, sharing)
        exact = is_exact(model, arguments)
        reason = of_main_process(trainer, lambda: probe_fault(model, model.forward, stock, exact, packed))
        if reason:
            raise NotShared(unshared(reason))
    share_attention(model)
