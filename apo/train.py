"""Anchored preference optimisation with TRL's DPOTrainer, one model folder a soup member.

    accelerate launch -m apo --config recipes/tiny/apo.yaml
    accelerate launch -m apo --config recipes/smollm3/apo.yaml --member 2

APO-zero (D'Oosterlinck et al. 2024, arXiv 2408.06266) raises the likelihood of chosen answers and lowers that of
rejected ones, each anchored to the reference model: with r = beta * (log p(y|x) - log p_ref(y|x)),

    loss = 1 - sigmoid(r_chosen) + sigmoid(r_rejected)

It departs from stock TRL in the data, tokenised and checked by `apo_soup.data` before the model is loaded, and in the
way, not the result, of the computation: `apo/trainer.py` packs pairs and computes each prompt once. Losses and options
that the packed path does not know run on the stock trainer, with one line that says so.
"""

from collections.abc import Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoConfig
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from trl import DPOConfig

from apo.checkpoints import KeepCheckpoints
from apo.reference import ReferenceStore
from apo.trainer import PackedDPOTrainer, PreparedDPOTrainer, column_lengths
from apo.which_trainer import NotPackable, attention_of, stock_reason
from apo_soup.config.library_keys import keys_of
from apo_soup.config.recipe import Recipe
from apo_soup.data.prepare import training_rows
from apo_soup.errors import UserError, told_by_library
from apo_soup.hashing import hash_file, hash_value
from apo_soup.progress import say
from apo_soup.runs.inputs import model_hash
from apo_soup.runs.members import Kept
from apo_soup.runs.stage import Stage
from apo_soup.training.arguments import adapters, tell_notes, trl_arguments
from apo_soup.training.callbacks import Watch
from apo_soup.training.checkpoints import begin
from apo_soup.training.trainer import release, train_and_save

# Keys of ModelConfig that leave the reference as it is: where it lies is in its hash, adapters are switched off for it.
ADAPTER_KEYS = ("model_name_or_path", "attn_implementation", "use_peft", "lora_r", "lora_alpha", "lora_dropout",
                "lora_target_modules", "lora_target_parameters", "lora_modules_to_save", "lora_task_type", "use_rslora",
                "use_dora")  # fmt: skip
# Rows of one attention matrix without block-sparsity: longer ones waste more in attention than they save elsewhere.
SDPA_PLACES = 512
# Keys that packed pairs leave nothing to do for: name -> why.
WITHOUT_EFFECT = {
    "precompute_ref_batch_size": "rows of the reference are as large as those of training",
    "per_device_eval_batch_size": "rows of the evaluation are as large as those of training",
    "eval_accumulation_steps": "an evaluation holds sums, not outputs",
    "dataloader_multiprocessing_context": "rows are cheap to build",
    "dataloader_in_order": "rows always come in order",
}


def train(recipe: Recipe, stage: Stage, kept: Sequence[Kept] = ()) -> None:
    """Prepare the pairs, train (or go on training) one member and put its folder, and those of the kept steps,
    into place.
    """
    tell_notes(recipe)
    arguments, model = trl_arguments(recipe, DPOConfig, stage.partial)
    check_attention(recipe, arguments.model_init_kwargs["attn_implementation"])
    with told_by_library(recipe.where("model_name_or_path"), (ValueError, OSError)):
        config = AutoConfig.from_pretrained(
            model.model_name_or_path,
            revision=model.model_revision,
            trust_remote_code=recipe.values.get("trust_remote_code", False),
        )
    reason = stock_reason(arguments, config)
    if recipe.values.get("packed_pairs") is False:
        reason = "packed_pairs: false"
    rows = training_rows(recipe, say)
    begin(stage)

    given = {
        "model": model.model_name_or_path,
        "args": arguments,
        "train_dataset": rows.splits["train"],
        "eval_dataset": rows.splits.get("test"),
        "processing_class": rows.tokenizer,
        "callbacks": [Watch(stage.name, arguments.beta * mean_length(rows.splits["train"], "chosen_ids"))],
        "store": reference_store(recipe, rows.folder),
        **adapters(model),
    }
    facts = {"data": rows.sources, "pairs": len(rows.splits["train"])}
    # A TypeError is the person's slip where options for loading the model are given, and elsewhere our own fault.
    slips = (TypeError,) if recipe.values.get("model_init_kwargs") else ()
    with (
        told_by_library(recipe.path, (ValueError, ImportError, NotImplementedError)),
        told_by_library(recipe.where("model_init_kwargs"), slips),
    ):
        trainer = None
        if not reason:
            try:
                trainer = packed_trainer(recipe, config, given)
            except NotPackable as error:
                reason = str(error)
                given["args"], _ = trl_arguments(recipe, DPOConfig, stage.partial)  # packing has changed them
        if trainer is None:
            release()  # what was loaded before it turned out not to be packable
            say(f"{stage.name}: pairs run on the stock trainer, because of {reason}")
            trainer = PreparedDPOTrainer(**given)
    if isinstance(trainer, PackedDPOTrainer):
        facts["reference_passes"] = trainer.reference_passes
        made = f"computed in {trainer.reference_passes} passes" if trainer.reference_passes else "found"
        say(f"{stage.name}: reference log-probabilities {made} in {trainer.store.folder}")
    trainer.add_callback(KeepCheckpoints(trainer, recipe, list(kept)))
    train_and_save(trainer, stage, recipe, facts)
    del trainer
    release()


def check_attention(recipe: Recipe, asked: str | None) -> None:
    """Raise UserError where no attention is called so."""
    known = ("eager", *ALL_ATTENTION_FUNCTIONS.valid_keys())
    if asked and asked not in known and "/" not in asked:  # with a slash it is a kernel on the Hub
        given = next(key for key in ("attn_implementation", "model_init_kwargs") if recipe.values.get(key))
        raise UserError(f"{recipe.where(given)}: attn_implementation {asked} is none of {', '.join(sorted(known))}")


def mean_length(pairs: Dataset, column: str) -> float:
    """The mean number of tokens in a column."""
    lengths = column_lengths(pairs, column)
    return sum(lengths) / max(1, len(lengths))


def packed_trainer(recipe: Recipe, config: Any, given: dict[str, Any]) -> PackedDPOTrainer:
    """The packed trainer with an attention that takes its masks: FlexAttention on a GPU, SDPA elsewhere or if asked.

    Raises:
        NotPackable: the model cannot be scored packed.
    """
    arguments = given["args"]
    asked = arguments.model_init_kwargs["attn_implementation"]
    attention = attention_of(config, asked, arguments.device.type == "cuda")
    if asked not in (None, attention):
        say(
            f"attn_implementation: packed pairs are run with {attention}, because {asked} does not take their mask here"
        )
    usual = {field.name: field.default for field in fields(DPOConfig)}
    for key, why in WITHOUT_EFFECT.items():
        if recipe.values.get(key, usual[key]) != usual[key]:
            say(f"{key} has no effect on packed pairs: {why}")
    arguments.model_init_kwargs["attn_implementation"] = attention
    arguments.precompute_ref_log_probs = True
    longest = arguments.max_length
    capacity = longest if attention == "flex_attention" else min(longest, SDPA_PLACES)
    return PackedDPOTrainer(**given, capacity=capacity)


def reference_store(recipe: Recipe, prepared: Path) -> ReferenceStore:
    """Where this model's log-probabilities of these pairs are kept, beside the prepared pairs."""
    values = recipe.values
    loading = {
        k: values.get(k) for k in (*keys_of("ModelConfig"), "model_init_kwargs", "tf32") if k not in ADAPTER_KEYS
    }
    content = {
        "model": model_hash(
            values["model_name_or_path"], recipe.where("model_name_or_path"), values.get("model_revision")
        ),
        # The hash at the end of the name is of the pairs' content; the rest is the stage's.
        "pairs": prepared.name.rpartition("-")[2],
        "loading": hash_value({k: str(v) for k, v in loading.items() if v is not None}),
        "code": hash_value([hash_file(file) for file in sorted(Path(__file__).parent.glob("*.py"))]),
        "libraries": hash_value([version(name) for name in ("torch", "transformers")]),
    }
    return ReferenceStore(prepared.parent.parent / "reference", content)
