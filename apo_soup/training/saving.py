"""A trained model as a whole, plain folder, and the way to the Hub."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from peft import PeftModel
from transformers import AutoModelForCausalLM, Trainer

from apo_soup.config.recipe import Recipe
from apo_soup.errors import UserError
from apo_soup.progress import is_main, say
from apo_soup.runs.stage import Stage

# Loading arguments that say how a model runs, not what it is.
LOADING_ONLY = ("attn_implementation", "quantization_config", "device_map", "max_memory")


@contextlib.contextmanager
def whole_state_dict(trainer: Trainer) -> Iterator[None]:
    """Gather a sharded model's weights into one state dict inside, and let checkpoints be sharded as before after."""
    if not trainer.is_fsdp_enabled:
        yield
        return
    plugin = trainer.accelerator.state.fsdp_plugin
    before = plugin.state_dict_type
    plugin.set_state_dict_type("FULL_STATE_DICT")
    try:
        yield
    finally:
        plugin.set_state_dict_type(before)


def save_model(trainer: Trainer, folder: Path, recipe: Recipe) -> None:
    """Save a plain model folder. An adapter is merged into its base (and kept beside it in `adapter/`).

    Raises:
        UserError: no weights were written.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapted = isinstance(model, PeftModel)
    saved = folder / "adapter" if adapted else folder
    with whole_state_dict(trainer):
        trainer.save_model(str(saved), _internal_call=True)
    if not is_main():
        return
    (saved / "training_args.bin").unlink(missing_ok=True)
    if adapted:
        # The base is read again rather than taken from the trainer, where it may be sharded or quantised.
        values = recipe.values
        own = {k: v for k, v in (values.get("model_init_kwargs") or {}).items() if k not in LOADING_ONLY}
        plain = {"revision": values.get("model_revision"), "dtype": values.get("dtype", "auto")}
        plain |= {"trust_remote_code": values.get("trust_remote_code", False)}
        base = AutoModelForCausalLM.from_pretrained(values["model_name_or_path"], **(plain | own))
        merged = PeftModel.from_pretrained(base, saved).merge_and_unload()
        # Training aligned the end-of-turn and padding tokens with the tokenizer; the fresh base knows nothing of it.
        trained = model.get_base_model()
        merged.config.eos_token_id = trained.config.eos_token_id
        merged.config.pad_token_id = trained.config.pad_token_id
        merged.generation_config = trained.generation_config
        merged.save_pretrained(folder)
        trainer.processing_class.save_pretrained(folder)
    if not any(folder.glob("*.safetensors")):
        raise UserError(f"{recipe.path}: no weights were saved in {folder}; the checkpoints stay in {folder.parent}")


def upload(stage: Stage, values: dict[str, Any]) -> None:
    """Send the finished folder to the Hub when the values, adapted to this machine, still say `push_to_hub`."""
    if not values.get("push_to_hub"):
        return
    name = values.get("hub_model_id") or stage.name.replace("/", "-")
    api = HfApi(token=values.get("hub_token"))
    repository = api.create_repo(name, private=values.get("hub_private_repo"), exist_ok=True).repo_id
    api.upload_folder(repo_id=repository, folder_path=stage.folder, commit_message=f"{stage.name} by apo-soup")
    say(f"{stage.name}: uploaded to {repository}")
