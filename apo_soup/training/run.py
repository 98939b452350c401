"""A training, from its last checkpoint to a finished model folder in its place."""

import gc
import time
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import PartialState
from peft import PeftModel
from transformers import PrinterCallback
from transformers.trainer_utils import TrainOutput

from apo_soup.config.places import run_folder_of
from apo_soup.config.training import TrainingFile
from apo_soup.data.trained_counts import trained_counts
from apo_soup.errors import UserError, told_while_at_work
from apo_soup.memory import memory_held
from apo_soup.models.quantised import quantisation
from apo_soup.progress import is_main, say, tell, warn
from apo_soup.runs.licence import cache_card
from apo_soup.runs.planned import planned
from apo_soup.runs.ranks import ended_together, main_decides
from apo_soup.runs.stage import Stage
from apo_soup.stops import STOPS, StopAsked
from apo_soup.training.arguments import machine_overrides
from apo_soup.training.callbacks import LookAtSteps, RestoreCounts, StopAtStep
from apo_soup.training.checkpoints import UNSHARDED, last_checkpoint, require_same_sharding
from apo_soup.training.entry import require_same_inputs
from apo_soup.training.finite import require_finite
from apo_soup.training.hang import hangs_told
from apo_soup.training.precision import MovedShare, Precision, cast_folder, precision, raise_masters, trained_low
from apo_soup.training.room import LookForRoom, sizes_of
from apo_soup.training.said import Beginning, beginning, closing_line, processes_asked
from apo_soup.training.saving import save_model, upload
from apo_soup.training.spikes import Spikes
from apo_soup.training.step_rows import places_told
from apo_soup.training.suite_scores import ScoreSuite, SuiteScorer, require_whole_model, suite_facts
from apo_soup.training.trainer import StageTrainer


def train_and_save(
    trainer: StageTrainer,
    stage: Stage,
    recipe: TrainingFile,
    prepared: Path,
    facts: dict[str, Any],
    scorer: SuiteScorer | None = None,
) -> None:
    """Train from the last whole checkpoint if there is one, then put the finished model folder into place.

    Args:
        prepared: the folder of the prepared rows.
        facts: go into the manifest beside what was measured.
        scorer: scores the model while it trains, where the recipe asks for that.

    Raises:
        UserError: the recipe's `metric_for_best_model` is not measured, a model in parts cannot be scored, or an input
            changed since the stage began.
    """
    require_same_inputs(stage, recipe)
    check_a_batch(trainer, recipe)
    if scorer is not None:
        require_whole_model(trainer, recipe)
    types = precision(recipe, trainer.args, isinstance(trainer.trained_model, PeftModel))
    say(f"{stage.name}: {types.told()}")
    base: Any = trainer.trained_model
    if quantisation(base):
        say(f"{stage.name}: the frozen base is held in {quantisation(base)}")
    _prepare_masters(trainer, recipe, types, stage.name)
    facts = facts | {"memory_before_mb": memory_before(trainer.trained_model) // 2**20}
    foretold = planned(recipe, stage.name)
    facts |= {"planned": foretold} if foretold else {}
    told = beginning(recipe, stage, trainer, trained_counts(prepared), foretold, processes_asked())
    trainer.add_callback(Beginning(told))
    trainer.remove_callback(PrinterCallback)  # Watch prints for people; the numbers are in trainer_state.json
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    found = main_decides(f"checkpoint of {stage.name}", lambda: _to_go_on_from(trainer, stage, recipe))
    checkpoint = Path(found) if found else None
    trainer.count_from(checkpoint)
    before = time.monotonic() - trainer.begun
    stop = StopAtStep(trainer)
    trainer.add_callback(LookForRoom(sizes_of(trainer.trained_model, recipe, types), stage, recipe))
    trainer.add_callback(RestoreCounts(trainer, stage.name))
    if scorer is not None:
        trainer.add_callback(ScoreSuite(trainer, recipe, stage.name, scorer))
    trainer.add_callback(stop)
    rows_told = partial(places_told, prepared)
    trainer.add_callback(LookAtSteps(trainer, stage.name, rows_told))
    if recipe.spike_factor is not None:
        trainer.add_callback(Spikes(trainer, recipe, recipe.spike_factor, stage.name, rows_told))
    with STOPS.deferred(f"{stage.name} is written to its end"):
        with hangs_told(trainer, stage.name, recipe.hang_minutes, rows_told):
            result = _trained(trainer, recipe, found or None)
        if stop.number:
            _leave_at_step(trainer, stage.name, stop.number)
        metrics = _measured(trainer, stage.name, result, before, stop)
        if scorer is not None:
            metrics |= suite_facts(trainer.state, trainer.args.load_best_model_at_end)
        _put_into_place(trainer, stage, recipe, types, metrics | facts)
        tell(closing_line(stage, metrics | facts, prepared))
        if stop.asked():
            _leave(stop.number, f" when {stage.name} was whole")


def _to_go_on_from(trainer: StageTrainer, stage: Stage, recipe: TrainingFile) -> str:
    """The newest whole checkpoint, or nothing.

    Raises:
        UserError: this launch cannot read its optimiser.
    """
    checkpoint = last_checkpoint(stage.partial)
    if checkpoint is None:
        return ""
    sharding = "DeepSpeed" if trainer.is_deepspeed_enabled else "FSDP" if trainer.is_fsdp_enabled else UNSHARDED
    require_same_sharding(checkpoint, sharding, recipe.place("output_dir"))
    return str(checkpoint)


def _measured(trainer: StageTrainer, name: str, result: TrainOutput, before: float, stop: StopAtStep) -> dict[str, Any]:
    """What is said of a training that came to its last step, evaluated where rows are held out.

    Args:
        before: seconds that went by until the checkpoint that this part went on from.

    Raises:
        StopAsked: a signal came before its weights began to be written; a checkpoint has them.
        UserError: a weight is not finite, or no step changed any.
    """
    require_finite(trainer.trained_model, f"{name}: step {trainer.state.global_step}")
    require_a_step(trainer, name)
    seconds = time.monotonic() - trainer.begun
    of_whole_run(result.metrics, trainer.state.log_history, before)
    # The last log's own figures are among the result's where its window ends with the run.
    metrics = {k: v for k, v in result.metrics.items() if k.startswith("train_") or k in ("total_flos", "epoch")}
    if trainer.eval_dataset is not None and not _stops_now(trainer, stop):
        metrics |= trainer.evaluate()
    if _stops_now(trainer, stop):
        _leave_at_step(trainer, name, stop.number)
    if trainer.args.load_best_model_at_end and trainer.state.best_model_checkpoint is None:
        warn(f"{name}: no checkpoint was measured to be the best; the weights are those of the last step")
    counted = {"tokens_seen": round(trainer.token_count), "steps": trainer.state.global_step}
    return metrics | counted | {"train_seconds": round(seconds, 2)}


def _put_into_place(
    trainer: StageTrainer, stage: Stage, recipe: TrainingFile, types: Precision, metrics: dict[str, Any]
) -> None:
    """Save what was trained as a finished folder, with its metrics.

    Raises:
        UserError: the disk refuses it.
    """
    final = stage.partial / "final"
    refusals_told = told_while_at_work(recipe.path, run_folder_of(recipe))
    with ended_together(f"{stage.name} is put into its place"), refusals_told:
        merged_into = save_model(trainer, final, recipe)
        if merged_into:
            say(f"{stage.name}: the adapter is merged into {merged_into}")
            metrics = metrics | {"merged_into": merged_into}
        if is_main():
            cast_folder(final, types.saved)
            trainer.state.save_to_json(str(final / "trainer_state.json"))
            if torch.cuda.is_available():
                metrics = metrics | {"peak_gpu_memory_mb": torch.cuda.max_memory_allocated() // 2**20}
            revision = recipe.model_revision if recipe.gives("model_revision") else None
            overrides, _ = machine_overrides(recipe)
            ran = {
                "model_name_or_path": recipe.model_name_or_path,
                "model_revision": revision,
                "attn_implementation": overrides.get("attn_implementation", recipe.attn_implementation),
                "per_device_train_batch_size": trainer.args.per_device_train_batch_size,
                "gradient_accumulation_steps": trainer.args.gradient_accumulation_steps,
                "sequence_parallel_size": trainer.sharing_size,
            }
            cache_card(recipe.model_name_or_path, revision)
            stage.finish(final, metrics, {"ran_with": ran})
            if overrides.get("push_to_hub", recipe.push_to_hub):
                upload(stage, recipe)
        PartialState().wait_for_everyone()


def _prepare_masters(trainer: StageTrainer, recipe: TrainingFile, types: Precision, name: str) -> None:
    """Raise the trained weights to the type of the masters; where they stay lower, have the share that moves told."""
    # DeepSpeed keeps masters of its own. Without mixed precision, float32 layers would meet a base that is not; TRL
    # makes an adapter on a quantised base bfloat16.
    mixed = trainer.accelerator.mixed_precision != "no" or types.loaded == types.trained
    if not trainer.is_deepspeed_enabled and mixed:
        raise_masters(trainer.trained_model, types.trained)
    if not trainer.is_deepspeed_enabled and trained_low(trainer.trained_model):
        cure = "bf16: true" if recipe.master_dtype == "float32" else "master_dtype: float32"
        trainer.add_callback(MovedShare(name, cure))


def _trained(trainer: StageTrainer, recipe: TrainingFile, checkpoint: str | None) -> TrainOutput:
    """Train from a checkpoint's folder, or from the beginning.

    Raises:
        UserError: the recipe's `metric_for_best_model` is not measured.
    """
    try:
        with STOPS.deferred():
            return trainer.train(resume_from_checkpoint=checkpoint)
    except KeyError as error:
        if "metric_for_best_model" not in str(error):
            raise
        raise UserError(
            f"{recipe.place('metric_for_best_model')}: expected a metric that is measured, got "
            f"{trainer.args.metric_for_best_model}: {error.args[0]}; name one of those"
        ) from error


def memory_before(model: torch.nn.Module) -> int:
    """Bytes that this process holds beside the weights of a model on the CPU, before a training begins."""
    weights = sum(parameter.nbytes for parameter in model.parameters() if parameter.device.type == "cpu")
    return memory_held() - weights


def check_a_batch(trainer: StageTrainer, recipe: TrainingFile) -> None:
    """Refuse rows of which not one batch is left: a stage of no steps would save the model as it was; and ranks that do
    not all take rows of their own, where the recipe gives the global batch.

    Raises:
        UserError: `dataloader_drop_last` drops them all; or the global batch comes out as another number.
    """
    args, rows = trainer.args, len(cast(Any, trainer.train_dataset))
    total = trainer.get_total_train_batch_size(args)
    if trainer.global_batch not in (None, total):
        raise UserError(
            f"{recipe.place('global_batch_size')}: expected processes that each take rows of their own, got some that "
            f"share them, or one process with several GPUs, which makes a step of {total}; launch a process a GPU, and "
            "leave out what splits a model or a sequence, or write gradient_accumulation_steps in its place"
        )
    needed = trainer.global_batch or args.per_device_train_batch_size * trainer.row_ranks
    if args.dataloader_drop_last and rows < needed:
        raise UserError(
            f"{recipe.place('dataloader_drop_last')}: expected at least {needed:,} sequences or pairs, a batch on each "
            f"of all processes, got {rows:,}, which would all be dropped; leave the key out, or lower "
            f"{'global_batch_size' if trainer.global_batch else 'per_device_train_batch_size'}"
        )


def require_a_step(trainer: StageTrainer, name: str) -> None:
    """Say how many steps of a training the loss scaler of fp16 skipped; refuse one that is the model it began with.

    Raises:
        UserError: it skipped them all.
    """
    steps, skipped = trainer.state.global_step, trainer.skipped
    if steps and skipped >= steps:
        raise UserError(
            f"{name}: expected at least one step that changes the weights, got {steps:,}, all of them skipped by the "
            "loss scaler of fp16, whose gradients were not finite; write bf16: true in place of fp16: true, or train "
            "for more steps, before which the scale falls"
        )
    if skipped:
        warn(f"{name}: {skipped:,} of {steps:,} steps were skipped by the loss scaler of fp16")


def _stops_now(trainer: StageTrainer, stop: StopAtStep) -> bool:
    """Whether a rank was asked to stop, and a checkpoint can hold the weights: those of the best step are another's."""
    return stop.asked() and not trainer.args.load_best_model_at_end


def _leave_at_step(trainer: StageTrainer, name: str, number: int) -> None:
    """End all ranks behind a step, with a checkpoint of it.

    Raises:
        StopAsked: always; the main process says what is kept.
    """
    state = trainer.state
    trainer.keep_step()
    _leave(number, f" after step {state.global_step} of {state.max_steps} of {name}, whose checkpoint is written")


def _leave(number: int, told: str) -> None:
    """End all ranks as a signal asked; `told` is what the main process says is kept.

    Raises:
        StopAsked: always.
    """
    STOPS.ignore()
    leave()
    raise StopAsked(number, told if is_main() else None)


def of_whole_run(metrics: dict[str, Any], log: list[dict[str, Any]], before: float) -> None:
    """Let the Trainer's closing seconds and rates, in its metrics and its log, be those of the whole run.

    Args:
        before: seconds that went by until the checkpoint that this part went on from.
    """
    part = metrics.get("train_runtime")
    if not before or not part:
        return
    for values in (metrics, *(entry for entry in log[-1:] if "train_runtime" in entry)):
        values["train_runtime"] = round(part + before, 4)
        for name in ("train_samples_per_second", "train_steps_per_second"):
            if name in values:
                values[name] = round(values[name] * part / (part + before), 3)


def release() -> None:
    """Give back the memory of a finished member before the next one loads its model."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def leave() -> None:
    """Close the process group, all ranks together: a rank that just exits can take the others down with it."""
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
