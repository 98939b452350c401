"""Keys of a training's run that cannot hold together: its evaluations, checkpoints, logs and warm-up.

The Trainer tells most of them when rows are prepared and the model is loaded.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from apo_soup.config.file_names import file_name_fault
from apo_soup.config.in_words import as_written, said_again
from apo_soup.config.mixture import Mixture
from apo_soup.config.nearest import nearest
from apo_soup.config.schedules import BY_METRIC
from apo_soup.config.stage_file import Fault, Remark

if TYPE_CHECKING:
    from apo_soup.config.training import TrainingFile

# The attention implementations of transformers but for `paged|...`, which only generation has; a kernel of the Hub is
# named as OWNER/NAME.
ATTENTIONS = (
    "eager", "sdpa", "flex_attention", "flash_attention_2", "flash_attention_3", "flash_attention_4",
)  # fmt: skip
# Shares of steps are compared in parts of a million, as transformers does.
SHARES_IN_ONE = 1_000_000
# The highest rate that anybody gives on purpose, with plain SGD on a small model.
HIGHEST_RATE = 0.5
# The largest share of the steps that anybody warms up for.
MOST_WARM_UP = 0.5


def run_faults(recipe: "TrainingFile") -> Iterator[Fault]:
    """What is wrong with a training file's keys of its run together."""
    yield from _evaluation_faults(recipe)
    # By these a stage that was stopped would end otherwise than one that was not.
    for name, asked, why in (
        (
            "enable_jit_checkpoint",
            recipe.enable_jit_checkpoint,
            "a stage that a signal stops writes a checkpoint by itself, and is not finished by it",
        ),
        (
            "ignore_data_skip",
            recipe.ignore_data_skip,
            "a stage that was stopped goes on with the rows that it has not trained on yet",
        ),
    ):
        if asked:
            yield Fault(name, f"expected no such key, since {why}, got true; leave the key out")
    for what, strategy, steps in (
        ("logging", recipe.logging_strategy, recipe.logging_steps),
        ("save", recipe.save_strategy, recipe.save_steps),
    ):
        if strategy == "steps" and steps == 0:
            told = f"expected more than 0 with {what}_strategy: steps, got 0; write a number, or {what}_strategy: 'no'"
            yield Fault(f"{what}_steps", told, (f"{what}_strategy",))
    yield from _counts_of_steps(recipe)
    yield from _precision_faults(recipe)
    longest, warm = recipe.max_steps, recipe.warmup_steps or 0
    if warm > (longest if longest and longest > 0 else 1e9):
        told = f"expected at most {longest if longest > 0 else 10**9:,}, the steps of the run, got {as_written(warm)}"
        yield Fault("warmup_steps", f"{told}, so the learning rate would never be reached; lower it", ("max_steps",))
    for key, attention in (
        ("attn_implementation", recipe.attn_implementation),
        ("model_init_kwargs.attn_implementation", recipe.loading_arguments.get("attn_implementation")),
    ):
        if isinstance(attention, str) and attention not in ATTENTIONS and "/" not in attention:
            way = nearest(attention, ATTENTIONS) or "name one of them"
            told = f"expected one of {', '.join(ATTENTIONS)}, or a kernel of the Hub as OWNER/NAME, got "
            yield Fault(key, f"{told}{said_again(attention)}; {way}")
    given = recipe.written("gradient_checkpointing_kwargs")
    # transformers reads a text in braces as JSON, and hands any other on.
    if isinstance(given, str) and not given.lstrip().startswith("{"):
        told = f"expected a mapping, got {as_written(given)}; write `name: value` lines below it"
        yield Fault("gradient_checkpointing_kwargs", told)
    fault = file_name_fault(recipe.logging_dir or "")
    if fault:
        yield Fault("logging_dir", fault)
    if recipe.hub_model_id is not None:
        yield from _hub_name_faults(recipe.hub_model_id)


def run_remarks(recipe: "TrainingFile") -> Iterator[Remark]:
    """What a person should know of a training file's keys of its run."""
    if recipe.learning_rate > HIGHEST_RATE:
        told = f"{recipe.learning_rate:g} is above {HIGHEST_RATE:g}, where models diverge; see whether its exponent is"
        told += " the one that is meant"
        yield Remark("learning_rate", told)
    if recipe.save_only_model:
        told = "a killed run begins anew, since its checkpoints lack the optimiser; one that a signal stops goes on"
        yield Remark("save_only_model", told)
    reads_metric = recipe.load_best_model_at_end or recipe.save_strategy == "best"
    if recipe.metric_for_best_model and not reads_metric and recipe.lr_scheduler_type not in BY_METRIC:
        told = "nothing reads it without load_best_model_at_end or save_strategy: best, so the last weights are kept"
        yield Remark("metric_for_best_model", told)
    if MOST_WARM_UP < (recipe.warmup_steps or 0) < 1:
        told = f"the learning rate rises for {recipe.warmup_steps:.0%} of the steps; a usual share is 0.03 to 0.1"
        yield Remark("warmup_steps", told)
    if recipe.lr_scheduler_type == "constant" and recipe.warmup_steps:
        told = "the schedule constant has no warm-up; write constant_with_warmup for one"
        yield Remark("warmup_steps", told)
    if recipe.logging_nan_inf_filter:
        told = "a loss that is not finite is hidden in the logs and in train_loss, and does not end the run"
        yield Remark("logging_nan_inf_filter", told)
    if recipe.push_to_hub and recipe.gives("hub_strategy") and recipe.hub_strategy != "end":
        told = f"{recipe.hub_strategy} has no effect, since the finished folder is sent, once, and no checkpoint"
        yield Remark("hub_strategy", told)


def _evaluation_faults(recipe: "TrainingFile") -> Iterator[Fault]:
    """Evaluations while training that have no rows, and a best checkpoint that nothing measures."""
    evaluates, saves = recipe.eval_strategy, recipe.save_strategy
    asked = ["eval_strategy"] if evaluates not in (None, "no") else []
    asked += ["eval_on_start"] if recipe.eval_on_start else []
    mixture: Mixture | None = recipe.dataset_mixture  # none where it is wrong itself
    held_out = mixture is None or mixture.test_split_size is not None
    for key in asked if not held_out else []:
        told = "expected rows held out by dataset_mixture.test_split_size, got none"
        yield Fault(key, f"{told}; add the key, or leave {key} out", ("dataset_mixture",))
    if saves == "best" and evaluates in (None, "no"):
        told = "expected eval_strategy beside save_strategy: best, got none, so that no checkpoint would be written"
        yield Fault("save_strategy", f"{told}; write it, or another save_strategy", ("eval_strategy",))
    if not recipe.load_best_model_at_end:
        return
    if saves != "best" and (evaluates != saves or evaluates in (None, "no")):
        told = f"expected one eval_strategy and save_strategy, steps or epoch, got {evaluates or 'no'} and {saves}"
        beside = ("eval_strategy", "save_strategy")
        yield Fault("load_best_model_at_end", f"{told}; write the same, or leave the key out", beside)
    elif evaluates == saves == "steps":
        every, kept = recipe.eval_steps or recipe.logging_steps, recipe.save_steps
        # A share of all steps is whole steps only when the run knows how many there are.
        unlike = bool(every and kept) and (every < 1) != (kept < 1)
        if every and kept and (unlike or kept * SHARES_IN_ONE % (every * SHARES_IN_ONE)):
            also = ", both whole numbers or both shares" if unlike else ""
            told = f"expected save_steps to be a multiple of eval_steps{also}, got {kept:g} and {every:g}"
            yield Fault("load_best_model_at_end", f"{told}; change one of them", ("save_steps", "eval_steps"))


def _precision_faults(recipe: "TrainingFile") -> Iterator[Fault]:
    """Types of products that stand beside each other, or that no CPU has."""
    for key, other, both in (
        ("fp16", "bf16", recipe.fp16 and recipe.bf16),
        ("fp16_full_eval", "bf16_full_eval", recipe.fp16_full_eval and recipe.bf16_full_eval),
    ):
        if both:
            yield Fault(key, f"expected one of {key} and {other}, got both; leave one of them out", (other,))
    if recipe.fp16 and recipe.use_cpu:
        told = "expected bf16 or float32 beside use_cpu: true, since no CPU trains with it, got true"
        yield Fault("fp16", f"{told}; write bf16: true, or leave one of them out", ("use_cpu",))


def _counts_of_steps(recipe: "TrainingFile") -> Iterator[Fault]:
    """Numbers of steps with a part of one."""
    for what, strategy, steps in (
        ("logging", recipe.logging_strategy, recipe.logging_steps),
        ("save", recipe.save_strategy, recipe.save_steps),
        ("eval", recipe.eval_strategy, recipe.eval_steps),
    ):
        if strategy == "steps" and steps and steps > 1 and steps != int(steps):
            told = f"expected a whole number of steps, or a share of them below 1, got {steps:g}; correct it"
            yield Fault(f"{what}_steps", told, (f"{what}_strategy",))
    warm = recipe.warmup_steps or 0
    if warm > 1 and warm != int(warm):
        told = f"expected a whole number of steps, or a share of them below 1, got {as_written(warm)}; correct it"
        yield Fault("warmup_steps", told)


def _hub_name_faults(name: str) -> Iterator[Fault]:
    # Imported here: it brings an HTTP client, a tenth of what a wrong key takes to be told.
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        told = f"expected a name of the Hub such as OWNER/NAME, got {as_written(name)}; correct it"
        yield Fault("hub_model_id", told)
