"""Keys of a training's schedule, evaluations and checkpoints that cannot hold together."""

import inspect

import pytest

from apo.pair_attention import PAIRS
from apo_soup.config.load import load
from apo_soup.config.run_keys import ATTENTIONS
from apo_soup.config.schedules import GIVEN, ONE_OF, RATE_SHAPES, schedules
from apo_soup.errors import UserError
from apo_soup.models.document_attention import DOCUMENTS
from apo_soup.plan.rehearsal import STAND_IN

FILE = {
    "model_name_or_path": "m/m",
    "output_dir": "o",
    "dataset_mixture": {"datasets": [{"id": "a/b"}]},
}
EVALUATED = {"eval_strategy": "steps", "dataset_mixture": {**FILE["dataset_mixture"], "test_split_size": 2}}
BEST = EVALUATED | {"load_best_model_at_end": True, "save_strategy": "steps"}
WSD = {"lr_scheduler_type": "warmup_stable_decay"}
COSINE = {"lr_scheduler_type": "cosine_with_min_lr"}


def told(write_recipe, **keys):
    path = write_recipe("sft.yaml", FILE | keys)
    try:
        load(path, "sft")
    except UserError as error:
        return [line.strip().split(": ", 1)[1] for line in str(error).splitlines()]
    return []


def test_schedules_and_their_arguments_are_those_of_the_installed_transformers():
    """Every argument that the source declares is taken, and each schedule is made with what it is said to need."""
    import torch
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, GreedyLR, get_scheduler

    takers = {"reduce_lr_on_plateau": torch.optim.lr_scheduler.ReduceLROnPlateau, "greedy": GreedyLR}
    found = schedules()
    assert set(found) == {kind.value for kind in TYPE_TO_SCHEDULER_FUNCTION}
    for kind, function in TYPE_TO_SCHEDULER_FUNCTION.items():
        schedule = found[kind.value]
        taker = takers.get(kind.value, function)
        names = [n for n, p in inspect.signature(taker).parameters.items() if p.kind is not p.VAR_KEYWORD]
        assert set(schedule.arguments) <= set(names)
        assert set(names) - set(schedule.arguments) <= GIVEN
        needed = dict.fromkeys((*schedule.required, *ONE_OF.get(kind.value, ())[:1]), 1)
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        get_scheduler(kind, optimizer, 1, 10, scheduler_specific_kwargs=needed)
    shapes = {"num_decay_steps": 3, "warmup_type": "none", "decay_type": "none"}
    for argument in ("warmup_type", "decay_type"):
        with pytest.raises(ValueError, match="expected 'linear', 'cosine' or '1-sqrt'"):
            get_scheduler(
                "warmup_stable_decay",
                optimizer,
                1,
                10,
                shapes | dict.fromkeys({*shapes} - {argument, "num_decay_steps"}, "linear"),
            )
    assert RATE_SHAPES == ("linear", "cosine", "1-sqrt")
    assert found["polynomial"].defaults["lr_end"] == 1e-7
    assert found["greedy"].defaults["min_lr"] == 1e-3


def test_attentions_are_those_of_the_installed_transformers():
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ours = {DOCUMENTS, PAIRS, STAND_IN}  # which other tests of this process may have registered
    paged = {name for name in ALL_ATTENTION_FUNCTIONS.valid_keys() if name.startswith("paged|")}
    assert set(ALL_ATTENTION_FUNCTIONS.valid_keys()) - ours - paged <= set(ATTENTIONS)


@pytest.mark.parametrize(
    ("keys", "sentences"),
    [
        (COSINE | {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}}, []),
        ({"gradient_checkpointing_kwargs": '{"use_reentrant": false}'}, []),
        (
            {"gradient_checkpointing_kwargs": "use_reentrant=False"},
            ["gradient_checkpointing_kwargs: expected a mapping, got 'use_reentrant=False'; write `name: value` lines "
             "below it"],
        ),
        (
            COSINE,
            ["lr_scheduler_kwargs: expected one of min_lr and min_lr_rate for the schedule cosine_with_min_lr, got "
             "none; write one, such as {min_lr_rate: 0.1}"],
        ),
        (
            COSINE | {"lr_scheduler_kwargs": {"min_lr_rate": float("nan"), "num_cycle": 1}},
            ["lr_scheduler_kwargs.min_lr_rate: expected a share of the peak learning rate, from 0 to 1, got nan; "
             "write one, or leave the argument out",
             "lr_scheduler_kwargs.num_cycle: expected an argument of the schedule cosine_with_min_lr (num_cycles, "
             "min_lr, min_lr_rate), got num_cycle; the nearest is num_cycles"],
        ),
        (
            {"lr_scheduler_type": "constant", "lr_scheduler_kwargs": {"min_lr": 1}},
            ["lr_scheduler_kwargs.min_lr: expected an argument of the schedule constant (none), got min_lr; remove it"],
        ),
        (COSINE | {"lr_scheduler_kwargs": '{"min_lr_rate": 0.1}'}, []),
        (
            {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": '{"min_lr": 1}'},
            ["lr_scheduler_kwargs.min_lr: expected an argument of the schedule cosine (num_cycles), got min_lr; remove "
             "it"],
        ),
        (
            {"lr_scheduler_kwargs": "min_lr=1"},
            ["lr_scheduler_kwargs: expected a mapping, got 'min_lr=1'; write `name: value` lines below it"],
        ),
        (
            {"lr_scheduler_type": "warmup_stable_decay"},
            ["lr_scheduler_kwargs: expected num_decay_steps, which the schedule warmup_stable_decay needs, got none; "
             "write it under lr_scheduler_kwargs"],
        ),
        (
            {"warmup_steps": 1e30},
            ["warmup_steps: expected at most 1,000,000,000, the steps of the run, got 1e+30, so the learning rate "
             "would never be reached; lower it"],
        ),
        ({"max_steps": 10, "warmup_steps": 10}, []),
        (
            {"max_steps": 10, "warmup_steps": 11},
            ["warmup_steps: expected at most 10, the steps of the run, got 11.0, so the learning rate would never be "
             "reached; lower it"],
        ),
        (
            {"eval_strategy": "steps"},
            ["eval_strategy: expected rows held out by dataset_mixture.test_split_size, got none; add the key, or "
             "leave eval_strategy out"],
        ),
        (
            {"load_best_model_at_end": True},
            ["load_best_model_at_end: expected one eval_strategy and save_strategy, steps or epoch, got no and steps; "
             "write the same, or leave the key out"],
        ),
        (
            {"logging_steps": 0},
            ["logging_steps: expected more than 0 with logging_strategy: steps, got 0; write a number, or "
             "logging_strategy: 'no'"],
        ),
        ({"logging_steps": 0, "logging_strategy": "no"}, []),
        ({"lr_scheduler_type": "greedy", "lr_scheduler_kwargs": {"facter": 1, "mode": 3}, **EVALUATED}, [
            "lr_scheduler_kwargs.min_lr: expected at most learning_rate, 2e-05, got 0.001, which the schedule greedy "
            "has without it, so that the rate would rise; write min_lr below it",
            "lr_scheduler_kwargs.facter: expected an argument of the schedule greedy (mode, factor, patience, "
            "threshold, threshold_mode, cooldown, warmup, min_lr, max_lr, eps, verbose, smooth, window_size, "
            "reset_start), got facter; the nearest is factor",
            "lr_scheduler_kwargs.mode: expected a word, got 3; write one, or leave the argument out",
        ]),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, [
            "lr_scheduler_type: expected eval_strategy beside the schedule reduce_lr_on_plateau, which follows "
            "evaluations, got none; write it",
        ]),
        ({"lr_scheduler_type": "reduce_lr_on_plateau", "lr_scheduler_kwargs": {"mode": "min"}, **EVALUATED}, []),
        (COSINE | {"lr_scheduler_kwargs": {"min_lr": 1e-3}}, [
            "lr_scheduler_kwargs.min_lr: expected at most learning_rate, 2e-05, got 0.001, so that the rate would "
            "rise; write min_lr below it",
        ]),
        ({"lr_scheduler_type": "polynomial", "learning_rate": 1e-8}, [
            "lr_scheduler_kwargs.lr_end: expected at most learning_rate, 1e-08, got 1e-07, which the schedule "
            "polynomial has without it, so that the rate would rise; write lr_end below it",
        ]),
        (WSD | {"max_steps": 100, "warmup_steps": 0.1, "lr_scheduler_kwargs": {"num_decay_steps": 91}}, [
            "lr_scheduler_kwargs.num_decay_steps: expected at most 90, the steps of the run less its warm-up, got 91; "
            "lower it",
        ]),
        (WSD | {"max_steps": 100, "warmup_steps": 10, "lr_scheduler_kwargs": {"num_decay_steps": 90}}, []),
        (WSD | {"lr_scheduler_kwargs": {"num_decay_steps": 9, "decay_type": "exponential"}}, [
            "lr_scheduler_kwargs.decay_type: expected one of linear, cosine, 1-sqrt, got 'exponential'; write one, or "
            "leave the argument out",
        ]),
        ({"lr_scheduler_type": "cosine_with_restarts", "lr_scheduler_kwargs": {"num_cycles": 0}}, [
            "lr_scheduler_kwargs.num_cycles: expected a number above 0, got 0; write one, or leave the argument out",
        ]),
        ({"logging_steps": 2.5, "save_steps": 1.5, "warmup_steps": 10.5}, [
            f"{key}: expected a whole number of steps, or a share of them below 1, got {got}; correct it"
            for key, got in (("logging_steps", 2.5), ("save_steps", 1.5), ("warmup_steps", 10.5))
        ]),
        ({"fp16": True, "bf16": True}, ["fp16: expected one of fp16 and bf16, got both; leave one of them out"]),
        ({"save_strategy": "best", "metric_for_best_model": "loss"}, [
            "save_strategy: expected eval_strategy beside save_strategy: best, got none, so that no checkpoint would "
            "be written; write it, or another save_strategy",
        ]),
        (BEST | {"save_steps": 0.3, "eval_steps": 0.2}, [
            "load_best_model_at_end: expected save_steps to be a multiple of eval_steps, got 0.3 and 0.2; change one "
            "of them",
        ]),
        (BEST | {"save_steps": 0.4, "eval_steps": 0.2}, []),
        (BEST | {"save_steps": 100, "eval_steps": 0.2}, [
            "load_best_model_at_end: expected save_steps to be a multiple of eval_steps, both whole numbers or both "
            "shares, got 100 and 0.2; change one of them",
        ]),
        (BEST | {"eval_steps": 50, "metric_for_best_model": "eval_loss", "greater_is_better": True}, [
            "greater_is_better: expected false beside metric_for_best_model: loss, got true, by which the worst "
            "weights are kept; leave the key out",
        ]),
        ({"warmup_ratio": 5}, [
            "warmup_ratio: expected a share of the steps below 1, got 5; write warmup_steps: 5 for as many steps",
        ]),
        ({"attn_implementation": "kernels-community/flash-attn"}, []),
        (
            {"attn_implementation": "flash_attention"},
            [f"attn_implementation: expected one of {', '.join(ATTENTIONS)}, or a kernel of the Hub as OWNER/NAME, got "
             "flash_attention; the nearest is flash_attention_2"],
        ),
        (
            {"enable_jit_checkpoint": True, "ignore_data_skip": False},
            ["enable_jit_checkpoint: expected no such key, since a stage that a signal stops writes a checkpoint by "
             "itself, and is not finished by it, got true; leave the key out"],
        ),
        (
            {"ignore_data_skip": True},
            ["ignore_data_skip: expected no such key, since a stage that was stopped goes on with the rows that it has "
             "not trained on yet, got true; leave the key out"],
        ),
        (
            {"use_peft": True, "lora_task_type": "SEQ_CLS"},
            ["lora_task_type: expected CAUSAL_LM, got 'SEQ_CLS'; write one of these, or leave the key out"],
        ),
        (
            {"hub_model_id": "a b/c"},
            ["hub_model_id: expected a name of the Hub such as OWNER/NAME, got 'a b/c'; correct it"],
        ),
        ({"learning_rate": 0}, ["learning_rate: expected a number above 0, got 0; raise it above 0"]),
        (
            {"model_name_or_path": "x" * 300},
            ["model_name_or_path: expected a path or an id, got 300 characters, which no file can be called; "
             "correct it"],
        ),
        (
            {"model_name_or_path": "a\nb"},
            ["model_name_or_path: expected a path or an id, got 'a\\nb', which no file can be called; correct it"],
        ),
    ],
)  # fmt: skip
def test_what_cannot_hold_together_is_told_before_anything_runs(write_recipe, keys, sentences):
    assert told(write_recipe, **keys) == sentences


def test_what_a_key_costs_is_told(write_recipe):
    keys = {"save_only_model": True, "logging_nan_inf_filter": True, "metric_for_best_model": "loss"}
    path = write_recipe(
        "sft.yaml", FILE | keys | {"lr_scheduler_type": "constant", "warmup_steps": 0.9, "learning_rate": "2e5"}
    )
    recipe = load(path, "sft")
    assert [note.split(": ", 1)[1] for note in recipe.notes] == [
        "learning_rate: 200000 is above 0.5, where models diverge; see whether its exponent is the one that is meant",
        "save_only_model: a killed run begins anew, since its checkpoints lack the optimiser; one that a signal stops "
        "goes on",
        "metric_for_best_model: nothing reads it without load_best_model_at_end or save_strategy: best, so the last "
        "weights are kept",
        "warmup_steps: the learning rate rises for 90% of the steps; a usual share is 0.03 to 0.1",
        "warmup_steps: the schedule constant has no warm-up; write constant_with_warmup for one",
        "logging_nan_inf_filter: a loss that is not finite is hidden in the logs and in train_loss, and does not end "
        "the run",
    ]
