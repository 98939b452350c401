"""Anchored preference optimisation with TRL's DPOTrainer, one model folder a soup member.

    accelerate launch -m apo --config recipes/tiny/apo.yaml
    accelerate launch -m apo --config recipes/smollm3/apo.yaml --member 2

APO-zero (D'Oosterlinck et al. 2024, arXiv 2408.06266) raises the likelihood of chosen answers and lowers that of
rejected ones, each anchored to the reference model: with r = beta * (log p(y|x) - log p_ref(y|x)),

    loss = 1 - sigmoid(r_chosen) + sigmoid(r_rejected)

It stands in `apo/losses.py`, with the other losses. This stage departs from stock TRL in the data, tokenised and
checked by `apo_soup.data` before the model is loaded, and in the way, not the result, of the computation:
`apo/trainer.py` packs pairs and computes each prompt once. Losses and options that it does not know run on the stock
trainer (`apo/which_trainer.py`), with one line that says so.
"""

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, cast

from transformers import AutoConfig, PreTrainedConfig
from trl import DPOConfig

from apo.checkpoints import KeepCheckpoints
from apo.pair_attention import PAIRS, register_pair_attention
from apo.prepared_pairs import mean_length
from apo.reference import reference_store
from apo.stock_trainer import PreparedDPOTrainer
from apo.trainer import PackedDPOTrainer
from apo.which_trainer import NotPackable, packed_attention, stock_reason
from apo_soup.config.apo import ApoFile
from apo_soup.config.shared_rows import heads_problem, sharing_refused, unshared
from apo_soup.data.prepare import training_rows
from apo_soup.errors import told_by_library
from apo_soup.models.earlier_adapter import base_model
from apo_soup.models.recipe_tokenizer import CONFIG_ERRORS
from apo_soup.models.shared_rows import NotShared
from apo_soup.progress import say, warn
from apo_soup.runs.members import Kept
from apo_soup.runs.stage import Stage
from apo_soup.runs.training_suite import training_suite
from apo_soup.training.adapter_fit import check_adapter_fits
from apo_soup.training.arguments import (
    adapters,
    keep_trackers,
    loading_options,
    refused_by_trl,
    say_notes,
    trl_arguments,
)
from apo_soup.training.callbacks import Watch
from apo_soup.training.checkpoints import begin_stage
from apo_soup.training.going_on import with_earlier_adapter
from apo_soup.training.new_rows import settle_adapter
from apo_soup.training.run import release, train_and_save

# Positions of a row by attention. Under one matrix without block-sparsity longer ones waste more than they save
# elsewhere; where pairs are attended to by themselves, longer ones have answers of more than a tile of the LM head, and
# only the last tile is not computed twice.
CAPACITIES = {"sdpa": 512, PAIRS: 1024}
# Keys that have no effect on packed pairs: name -> why.
WITHOUT_EFFECT = {
    "precompute_ref_batch_size": "rows of the reference are as large as those of training",
    "per_device_eval_batch_size": "rows of the evaluation are as large as those of training",
    "eval_accumulation_steps": "an evaluation holds sums, not outputs",
    "dataloader_multiprocessing_context": "rows are cheap to build",
    "dataloader_in_order": "rows always come in order",
}


def train_member(recipe: ApoFile, stage: Stage, kept: Sequence[Kept] = ()) -> None:
    """Prepare the pairs, train (or go on training) one member, and put its folder and those of the kept steps into
    place.

    Raises:
        UserError: rows that cannot be used, or a value that TRL or transformers refuses.
    """
    say_notes(recipe)
    suite = training_suite(recipe, recipe.eval_suite) if recipe.eval_suite else None
    arguments, model = trl_arguments(recipe, DPOConfig, stage.partial)
    place, taken = recipe.place("model_name_or_path"), "a model that transformers loads"
    with told_by_library(place, CONFIG_ERRORS, expected=taken, way="name another one"):
        config = AutoConfig.from_pretrained(
            base_model(recipe), revision=model.model_revision, trust_remote_code=recipe.trust_remote_code
        )
    reason = stock_reason(arguments, config)
    if recipe.packed_pairs is False:
        reason = "packed_pairs: false"
    size = recipe.sequence_parallel_size
    heads = heads_problem(config.get_text_config(), size)
    if size > 1 and heads:
        raise sharing_refused(recipe, heads)
    if size > 1 and reason:
        raise sharing_refused(recipe, unshared(reason))
    adapting = adapters(model, recipe.path)
    check_adapter_fits(adapting["peft_config"], recipe)
    rows = training_rows(recipe, say)
    begin_stage(stage, recipe.place("output_dir"))
    keep_trackers(arguments, recipe, stage)

    pairs = rows.splits["train"]
    common = {
        "model": recipe.model_name_or_path,
        "train_dataset": pairs,
        "eval_dataset": rows.splits.get("test"),
        "processing_class": rows.tokenizer,
        "callbacks": [Watch(stage.name, arguments.beta * mean_length(pairs, "chosen_ids"))],
        "store": reference_store(recipe, rows.folder),
        "global_batch": recipe.global_batch_size,
        "sharing_size": recipe.sequence_parallel_size,
        **adapting,
    }
    trainer: PreparedDPOTrainer | None = None
    if reason is None:
        try:
            trainer = packed_trainer(recipe, config, arguments, common)
        except NotShared as error:
            raise sharing_refused(recipe, error.why) from error
        except NotPackable as error:
            reason = str(error)
            if size > 1:
                raise sharing_refused(recipe, unshared(reason)) from error
            arguments, _ = trl_arguments(recipe, DPOConfig, stage.partial)  # packing has changed them
            keep_trackers(arguments, recipe, stage)
    if trainer is None:
        release()  # what was loaded before it turned out not to be packable
        warn(f"{stage.name}: pairs run on the stock trainer, because of {reason}")
        trainer = stock_trainer(recipe, arguments, common)
        at_once = arguments.train_batch_size * arguments.world_size
        if recipe.global_batch_size and arguments.world_size > 1 and len(pairs) % at_once:
            again = -len(pairs) % at_once
            warn(
                f"{stage.name}: the last step of an epoch takes {again} of its first pairs again, to fill all processes"
            )

    facts: dict[str, Any] = {"data": rows.sources, "pairs": len(pairs)}
    if isinstance(trainer, PackedDPOTrainer):
        passes = facts["reference_passes"] = trainer.reference_passes
        origin = f"computed in {passes} passes" if passes else "found"
        say(f"{stage.name}: reference log-probabilities {origin} in {trainer.store.folder}")
    scorer = None
    if suite is not None:
        from apo_soup.evals.while_training import suite_scorer  # for those who ask

        scorer = suite_scorer(suite, recipe, rows.tokenizer)
    trainer.add_callback(KeepCheckpoints(trainer, recipe, list(kept)))
    train_and_save(trainer, stage, recipe, rows.folder, facts, scorer)
    del trainer
    release()


def stock_trainer(recipe: ApoFile, arguments: DPOConfig, common: dict[str, Any]) -> PreparedDPOTrainer:
    """The stock trainer with its reference; `common` are the arguments that both trainers are made with.

    Raises:
        UserError: TRL refuses the recipe.
    """
    common = common | settled_model(recipe, arguments, common)
    arguments.remove_unused_columns = False  # which would take the numbers of the rows away
    with refused_by_trl(recipe):
        trainer = PreparedDPOTrainer(args=arguments, **common)
    settle_adapter(trainer, recipe)
    trainer.add_reference()
    return trainer


def packed_trainer(
    recipe: ApoFile, config: PreTrainedConfig, arguments: DPOConfig, common: dict[str, Any]
) -> PackedDPOTrainer:
    """The packed trainer with its reference, and an attention that takes its masks: FlexAttention on a GPU, SDPA
    elsewhere or where it is asked for. Changes `arguments`.

    Raises:
        NotPackable: the model cannot be trained on packed pairs.
        UserError: transformers, peft or TRL refuses the model or an argument.
    """
    loading = loading_options(arguments)
    requested = loading["attn_implementation"]
    attention = packed_attention(config, requested, arguments.device.type == "cuda")
    register_pair_attention()
    kernels = "sdpa" if attention == PAIRS else attention
    if requested not in (None, kernels):
        warn(
            f"attn_implementation: packed pairs are run with {kernels}, because {requested} does not take their mask "
            "here"
        )
    defaults = {field.name: field.default for field in fields(DPOConfig)}
    for key, why in WITHOUT_EFFECT.items():
        if getattr(arguments, key) != defaults[key]:
            warn(f"{key} has no effect on packed pairs: {why}")
    loading["attn_implementation"] = attention
    arguments.precompute_ref_log_probs = True
    longest = cast(int, arguments.max_length)
    capacity = min(longest, CAPACITIES.get(attention, longest))
    common = common | settled_model(recipe, arguments, common)
    with refused_by_trl(recipe):
        trainer = PackedDPOTrainer(args=arguments, capacity=capacity, **common)
    settle_adapter(trainer, recipe)
    trainer.add_reference()
    return trainer


def settled_model(recipe: ApoFile, arguments: DPOConfig, common: dict[str, Any]) -> dict[str, Any]:
    """What of a trainer's arguments is otherwise where the recipe goes on with an adapter, which is loaded already.

    Raises:
        UserError: transformers or peft cannot load the base or the adapter.
    """
    adapting = {name: common[name] for name in ("peft_config", "quantization_config")}
    model = with_earlier_adapter(recipe, arguments, adapting)
    return {} if model is None else {**adapting, "model": model}
