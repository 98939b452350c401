"""A trained model as a whole, plain folder, and the way to the Hub."""

import contextlib
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from huggingface_hub import HfApi
from peft import PeftModel
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase, Trainer
from transformers.integrations import is_deepspeed_zero3_enabled

from apo_soup.config.places import run_folder_of
from apo_soup.config.training import TrainingFile
from apo_soup.data.rendering.loaded_model import answer_ends
from apo_soup.data.rendering.trained_spans import Renderer
from apo_soup.errors import UserError
from apo_soup.models.adapted import untied
from apo_soup.models.earlier_adapter import base_model
from apo_soup.models.generation import end_ids
from apo_soup.models.quantised import dequantised, quantisation, with_dequantised
from apo_soup.models.window import window_arguments
from apo_soup.private import save_without_upload
from apo_soup.progress import is_main, say, warn
from apo_soup.runs.hub_refusals import told_by_hub
from apo_soup.runs.makers import ADAPTER
from apo_soup.runs.sent_files import commit_operations, parcel_of, sent_content
from apo_soup.runs.stage import Stage
from apo_soup.training.going_on import REFERENCE_ADAPTER
from apo_soup.training.resized import RESIZED

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


def save_model(trainer: Trainer, folder: Path, recipe: TrainingFile) -> str | None:
    """Save a plain model folder. An adapter is merged into its base (and kept beside it in `adapter/`).

    Returns:
        On the main process, what the adapter of a quantised base was merged into, in words; else None.

    Raises:
        UserError: no weights were written.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    adapted = isinstance(model, PeftModel)
    saved = folder / ADAPTER if adapted else folder
    tokenizer = cast(PreTrainedTokenizerBase, trainer.processing_class)
    name_ends(cast(PreTrainedModel, model.get_base_model() if adapted else model), tokenizer)
    with whole_state_dict(trainer):
        save_without_upload(trainer, saved)
    if not is_main():
        return None
    into = None
    (saved / "training_args.bin").unlink(missing_ok=True)
    if adapted:
        shutil.rmtree(saved / REFERENCE_ADAPTER, ignore_errors=True)  # of no use to who loads the adapter
        into = _save_merged(trainer, saved, folder, recipe)
        tokenizer.save_pretrained(folder)
    if not any(folder.glob("*.safetensors")):
        raise UserError(
            f"{recipe.path}: expected saved weights in {folder}, got none; look at the checkpoints in {folder.parent}"
        )
    return into


def name_ends(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Have a model's generation settings name every token that ends an answer, for those who run the folder with
    another program: the template's end of turn is not always the tokenizer's.

    Raises:
        UserError: the chat template is not valid Jinja.
    """
    settings = model.generation_config
    if settings is None or not tokenizer.chat_template:
        return
    ends = answer_ends(Renderer(tokenizer), model)
    if ends != end_ids(tokenizer, model):
        settings.eos_token_id = sorted(ends)


def _save_merged(trainer: Trainer, adapter: Path, folder: Path, recipe: TrainingFile) -> str | None:
    """Save the base with the adapter in its weights. The base is read again rather than taken from the trainer, where
    it may be sharded or quantised; weights that were trained quantised are what they stood for there.

    Returns:
        What a quantised base's adapter was merged into, in words; None for any other base.
    """
    model = cast(PeftModel, trainer.accelerator.unwrap_model(trainer.model))
    loading = {
        "revision": recipe.model_revision if recipe.gives("model_revision") else None,
        "dtype": recipe.dtype if recipe.gives("dtype") else "auto",
        "trust_remote_code": recipe.trust_remote_code,
        **{k: v for k, v in recipe.loading_arguments.items() if k not in LOADING_ONLY},
        **window_arguments(recipe),
    }
    trained = cast(PreTrainedModel, model.get_base_model())
    resized = folder.parent / RESIZED
    base: Any = AutoModelForCausalLM.from_pretrained(resized if resized.is_dir() else base_model(recipe), **loading)
    if quantisation(base):  # stored so: what it stands for is what was trained on
        base = dequantised(base)
    sharded = trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled()
    into = None if sharded else with_dequantised(base, trained)
    if into is None and quantisation(trained):
        copy = f"their {quantisation(trained)} copy that it was trained on"
        into = f"the weights of {base_model(recipe)}, not {copy}"
    merged = untied(PeftModel.from_pretrained(base, adapter)).merge_and_unload()
    # Training aligned the end-of-turn and padding tokens with the tokenizer; the fresh base knows nothing of it.
    merged.config.eos_token_id = trained.config.eos_token_id
    merged.config.pad_token_id = trained.config.pad_token_id
    merged.generation_config = trained.generation_config
    merged.save_pretrained(folder)
    return into


def upload(stage: Stage, recipe: TrainingFile) -> None:
    """Send the finished folder to the Hub, to `hub_model_id` or a repository of the stage's name, and there to the
    branch `hub_revision`, which is made where it is not there. Where the Hub refuses, that is told and no more: the
    stage is whole, and what follows it needs no Hub.

    Raises:
        UserError: the folder is not whole, or a file of it names a place of this machine.
    """
    run = run_folder_of(recipe)
    where = stage.folder.relative_to(run).as_posix()
    content = sent_content(parcel_of(run, where), run, where)
    name = recipe.hub_model_id or stage.name.replace("/", "-")
    api, branch = HfApi(token=recipe.hub_token), recipe.hub_revision
    try:
        with told_by_hub(recipe.place("push_to_hub"), name):
            repository = api.create_repo(name, private=recipe.hub_private_repo, exist_ok=True).repo_id
            if branch:
                api.create_branch(repository, branch=branch, exist_ok=True)
            operations, message = commit_operations(content, repository), f"{stage.name} by apo-soup"
            api.create_commit(repository, operations, commit_message=message, revision=branch)
    except UserError as error:
        command = f"apo-soup push {shlex.quote(str(stage.folder))} --repo {name}"
        warn(f"{error}; {stage.folder} is whole, and `{command}` sends it")
        return
    say(f"{stage.name}: uploaded to {repository}{f'@{branch}' if branch else ''}")
