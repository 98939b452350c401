"""Values that the libraries refuse late are refused with the file, as the installed releases would."""

import ast

import pytest

from apo_soup.config.library_source import class_members, enumeration_members, enumerations, fields_of, source_tree
from apo_soup.config.library_values import (
    COMPILE_MODES,
    FSDP1_ONLY,
    LOG_LEVELS,
    LOW_RANK,
    WITHOUT_ARGS,
    computes_with_bitsandbytes,
    missing_library,
)
from apo_soup.config.load import load
from apo_soup.errors import UserError

GOOD = {"model_name_or_path": "m/m", "output_dir": "o", "dataset_mixture": {"datasets": [{"id": "a.jsonl"}]}}
HELD_OUT = GOOD["dataset_mixture"] | {"test_split_size": 2}
BEST = {"save_strategy": "best", "eval_strategy": "steps", "dataset_mixture": HELD_OUT}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"fsdp": "full_shard zz"}, "fsdp: expected one of full_shard, shard_grad_op, no_shard, hybrid_shard, hybrid"),
        ({"fsdp": "hybrid_shard"}, "fsdp: expected full_shard or shard_grad_op, which FSDP2 has, got hybrid_shard"),
        ({"torch_compile_backend": "inductro"}, "got inductro; the nearest is inductor"),
        ({"torch_compile_mode": "fast"}, "torch_compile_mode: expected one of default, lite, reduce-overhead, max-"),
        (
            {"log_level": "loud"},
            "expected one of detail, debug, info, warning, error, critical, passive, got loud",
        ),
        ({"log_level_replica": "infoo"}, "got infoo; the nearest is info"),
        ({"debug": "underflow"}, "debug: expected one of underflow_overflow, tpu_metrics_debug, got underflow"),
        ({"accelerator_config": {"split_batch": 1}}, "got split_batch; the nearest is split_batches"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor: expected dataloader_num_workers above 0"),
        (BEST, "save_strategy: expected metric_for_best_model beside save_strategy: best, got"),
        (BEST | {"metric_for_best_model": "los"}, "got los; the nearest is loss"),
        ({"fsdp": True, "deepspeed": {"a": 1}}, "fsdp: expected one of fsdp and deepspeed, got both; leave one"),
        ({"optim_args": "foo=1"}, "optim_args: expected an optimiser that reads it, got adamw_torch"),
        ({"optim": "lomo", "optim_args": "foo=1"}, "optim_args: expected an optimiser that reads it, got lomo, which"),
        ({"optim_target_modules": ["x"]}, "optim_target_modules: expected an optimiser of galore or apollo, which"),
        ({"optim": "galore_adamw"}, "optim: expected optim_target_modules beside galore_adamw, got none; write it"),
        ({"model_init_kwargs": "use_cache"}, "model_init_kwargs: expected a mapping, got 'use_cache'; write the keys"),
    ],
)
@pytest.mark.parametrize("kind", ["sft", "apo"])
def test_a_value_that_the_libraries_refuse_is_refused_with_the_file(kind, changes, told, write_recipe):
    with pytest.raises(UserError) as refused:
        load(write_recipe(f"{kind}.yaml", GOOD | changes), kind)
    assert told in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"fsdp": True},
        {"fsdp": ["full_shard", "auto_wrap"]},
        {"fsdp": "hybrid_shard", "fsdp_config": {"version": 1}},
        {"torch_compile_backend": "Aot_Eager", "torch_compile_mode": "lite"},
        {"debug": ""},
        {"accelerator_config": {"split_batches": True}},
        {"dataloader_prefetch_factor": 2, "dataloader_num_workers": 1},
        BEST | {"metric_for_best_model": "eval_entropy"},
        {"optim": "sgd", "optim_args": "momentum=0.9"},
        {"metric_for_best_model": "anything, for nothing asks for it"},
    ],
)
def test_what_the_libraries_take_is_taken(changes, write_recipe):
    recipe = load(write_recipe("sft.yaml", GOOD | changes), "sft")
    assert recipe.given_values().items() >= changes.items()


def test_the_tables_are_those_of_the_installed_releases():
    from accelerate.utils.constants import FSDP_SHARDING_STRATEGY
    from accelerate.utils.dataclasses import DynamoBackend
    from transformers.debug_utils import DebugOption
    from transformers.trainer_pt_utils import AcceleratorConfig
    from transformers.training_args import trainer_log_levels

    assert set(trainer_log_levels) == set(LOG_LEVELS)
    tree = source_tree("torch", "_inductor/__init__.py")  # its import takes seconds
    modes = next(n.value for n in ast.walk(tree) if isinstance(n, ast.AnnAssign) and n.target.id == "mode_options")
    assert tuple(key.value for key in modes.keys) == COMPILE_MODES
    members = class_members("accelerate", "utils/dataclasses.py", "DynamoBackend")
    assert set(members.values()) == {backend.value for backend in DynamoBackend}
    debug = class_members("transformers", "debug_utils.py", "DebugOption")
    assert set(debug.values()) == {option.value for option in DebugOption}
    assert set(fields_of("transformers", "trainer_pt_utils.py", "AcceleratorConfig")) == set(vars(AcceleratorConfig()))
    ways = {way.lower() for way in FSDP_SHARDING_STRATEGY}
    assert ways & set(enumerations()["FSDPOption"]) == {*FSDP1_ONLY, "full_shard", "shard_grad_op"}


def test_optimisers_that_read_no_arguments_are_those_of_the_installed_transformers():
    tree = source_tree("transformers", "trainer_optimizer.py")
    reads = {node.name: "optim_args" in ast.unparse(node) for node in tree.body if isinstance(node, ast.FunctionDef)}
    tables = [node.value for node in tree.body if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict)]
    (table,) = (table for table in tables if len(table.keys) > 10)
    words = enumeration_members()["OptimizerNames"]
    handlers = [(key, value) for key, value in zip(table.keys, table.values, strict=True) if key is not None]
    found = {words[key.attr] for key, value in handlers if not reads[value.id]}
    assert found == set(WITHOUT_ARGS)


def test_an_optimiser_whose_package_is_not_here_is_told_where_transformers_would(write_recipe):
    """Every optimiser that transformers knows, asked of it and of us."""
    import torch
    from transformers import Trainer, TrainingArguments

    model = torch.nn.Linear(2, 2)
    told = {}
    for name in enumerations()["OptimizerNames"]:
        arguments = TrainingArguments("o", optim=name, optim_target_modules=["x"], use_cpu=True)
        try:
            Trainer.get_optimizer_cls_and_kwargs(arguments, model)
            told[name] = False
        except (ImportError, ValueError):
            told[name] = True
        low_rank = any(part in name for part in LOW_RANK)
        path = write_recipe("sft.yaml", GOOD | {"optim": name} | ({"optim_target_modules": ["x"]} if low_rank else {}))
        sentence = missing_library(load(path, "sft"))
        assert (sentence is not None) == told[name], (name, sentence)
        if sentence:
            assert f"sft.yaml:6: optim: expected the package {sentence.rpartition(' ')[2]}, which brings" in sentence
    assert not told["adamw_torch"]
    assert told["galore_adamw"]


@pytest.mark.parametrize(
    ("changes", "asks"),
    [
        ({}, False),
        ({"optim": "adamw_torch_fused"}, False),
        ({"optim": "adamw_torch_8bit"}, False),
        ({"optim": "paged_adamw_32bit"}, True),
        ({"optim": "adamw_bnb_8bit"}, True),
        ({"load_in_4bit": True, "use_peft": True}, True),
        ({"load_in_8bit": True, "use_peft": True}, True),
    ],
)
def test_bitsandbytes_computes_where_weights_or_the_optimiser_are_its(changes, asks, write_recipe):
    assert computes_with_bitsandbytes(load(write_recipe("sft.yaml", GOOD | changes), "sft")) is asks
