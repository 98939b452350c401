"""Keys of a training's schedule, evaluations and checkpoints that cannot hold together."""

import inspect

import pytest

from apo.pair_attention import PAIRS
from apo_soup.config.load import load
from apo_soup.config.run_keys import ATTENTIONS
from apo_soup.config.schedules import GIVEN, ONE_OF, schedules
from apo_soup.errors import UserError
from apo_soup.models.document_attention import DOCUMENTS
from apo_soup.plan.rehearsal import STAND_IN

FILE = {
    "model_name_or_path": "m/m",
    "output_dir": "o",
    "dataset_mixture": {"datasets": [{"id": "a/b"}]},
}
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
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION, get_scheduler

    found = schedules()
    assert set(found) == {kind.value for kind in TYPE_TO_SCHEDULER_FUNCTION}
    for kind, function in TYPE_TO_SCHEDULER_FUNCTION.items():
        schedule = found[kind.value]
        names = [n for n, p in inspect.signature(function).parameters.items() if p.kind is not p.VAR_KEYWORD]
        assert set(schedule.arguments) <= set(names)
        assert set(names) - set(schedule.arguments) <= GIVEN
        needed = dict.fromkeys((*schedule.required, *ONE_OF.get(kind.value, ())[:1]), 1)
        optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
        get_scheduler(kind, optimizer, 1, 10, scheduler_specific_kwargs=needed)


def test_attentions_are_those_of_the_installed_transformers():
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    ours = {DOCUMENTS, PAIRS, STAND_IN}  # which other tests of this process may have registered
    assert set(ALL_ATTENTION_FUNCTIONS.valid_keys()) - ours <= set(ATTENTIONS)


@pytest.mark.parametrize(
    ("keys", "sentences"),
    [
        (COSINE | {"lr_scheduler_kwargs": {"min_lr_rate": 0.1}}, []),
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
        ({"attn_implementation": "kernels-community/flash-attn"}, []),
        (
            {"attn_implementation": "flash_attention"},
            [f"attn_implementation: expected one of {', '.join(ATTENTIONS)}, or a kernel of the Hub as OWNER/NAME, got "
             "flash_attention; the nearest is flash_attention_4"],
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
    path = write_recipe("sft.yaml", FILE | {"save_only_model": True, "logging_nan_inf_filter": True})
    recipe = load(path, "sft")
    assert [note.split(": ", 1)[1] for note in recipe.notes] == [
        "save_only_model: a killed run begins anew, since its checkpoints lack the optimiser; one that a signal stops "
        "goes on",
        "logging_nan_inf_filter: a loss that is not finite is hidden in the logs and in train_loss, and does not end "
        "the run",
    ]
