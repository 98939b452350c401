"""What `sequence_parallel_size` can stand beside, in a file and in a launch; parallelism that accelerate brings."""

from types import SimpleNamespace

import pytest

from apo_soup.config.load import load
from apo_soup.config.shared_rows import (
    Division,
    Unshared,
    division_here,
    division_of_file,
    division_problem,
    heads_problem,
    sharing_refused,
    unshared,
    untested,
)
from apo_soup.errors import UserError

FILE = """output_dir: runs/x/{kind}
model_name_or_path: m/m
dataset_mixture: {{datasets: [{{id: owner/rows}}]}}
"""


def loaded(tmp_path, text="", kind="sft"):
    path = tmp_path / f"{kind}.yaml"
    path.write_text(FILE.format(kind=kind) + text)
    return load(path, kind)


@pytest.mark.parametrize(
    ("kind", "text", "told"),
    [
        ("sft", "attn_implementation: eager\n", "attn_implementation: eager, which is in no registry, got 2; leave"),
        (
            "sft",
            "attn_implementation: flex_attention\n",
            "attn_implementation: flex_attention, under which shared rows of documents were never tried, got 2; leave "
            "that key out",
        ),
        ("sft", "use_liger_kernel: true\n", "use_liger_kernel, for which each process takes rows whole, got 2; leave"),
        ("sft", "loss_type: dft\n", "loss_type, for which each process takes rows whole, got 2; leave one of the two"),
        ("sft", "torch_compile: true\n", "torch_compile, for which each process takes rows whole, got 2; leave one"),
        ("apo", "packed_pairs: false\n", "packed_pairs: false, with which pairs are not packed, got 2; leave one"),
        ("apo", "ld_alpha: 0.5\n", "ld_alpha, with which pairs are not packed, got 2; leave one of the two out"),
        ("apo", "loss_type: aot\n", "loss_type aot, with which pairs are not packed, got 2; leave one of the two out"),
        ("apo", "neftune_noise_alpha: 5\n", "neftune_noise_alpha, for which each process takes rows whole, got 2; "),
    ],
)
def test_keys_that_rows_cannot_be_shared_beside_are_told(tmp_path, kind, text, told):
    with pytest.raises(UserError) as error:
        loaded(tmp_path, f"sequence_parallel_size: 2\n{text}", kind)
    assert f"{tmp_path}/{kind}.yaml:4: sequence_parallel_size: expected 1 beside {told}" in str(error.value)
    if text != "packed_pairs: false\n":
        loaded(tmp_path, f"sequence_parallel_size: 1\n{text}", kind)


def test_a_model_loaded_in_parts_of_its_products_is_refused(tmp_path):
    with pytest.raises(UserError) as error:
        loaded(tmp_path, "model_init_kwargs:\n  tp_plan: auto\n")
    assert str(error.value) == (
        f"{tmp_path}/sft.yaml:5: model_init_kwargs.tp_plan: expected a model that each process loads whole, for FSDP2 "
        "divides it, got tensor parallelism; leave it out, and launch with fsdp2.yaml"
    )


def test_dropout_that_the_processes_of_a_row_draw_alike_is_told(tmp_path):
    lora = "sequence_parallel_size: 2\nuse_peft: true\nlora_target_modules: all-linear\n"
    assert loaded(tmp_path, lora).notes == [
        f"{tmp_path}/sft.yaml:4: sequence_parallel_size: with lora_dropout 0.05 the 2 processes that share a row drop "
        "alike in their parts of it, so losses are not those of a process alone; lora_dropout: 0 has them be"
    ]
    assert loaded(tmp_path, lora + "lora_dropout: 0\n").notes == []
    assert loaded(tmp_path, lora.replace("2", "1")).notes == []
    assert loaded(tmp_path, lora, "apo").notes == []
    assert loaded(tmp_path, "sequence_parallel_size: 2\n").notes == []


def test_it_makes_no_stage_stale_and_changes_no_key(tmp_path):
    shared = loaded(tmp_path, "sequence_parallel_size: 2\nloss_type: nll\nuse_liger_kernel: false\n")
    alone = loaded(tmp_path, "loss_type: nll\nuse_liger_kernel: false\n")
    assert shared.deciding_values() == alone.deciding_values()


CP, TP, SP = ({"parallelism_config": {f"parallelism_config_{kind}_size": 2}} for kind in ("cp", "tp", "sp"))
DP = {"parallelism_config": {"parallelism_config_dp_replicate_size": 2, "parallelism_config_dp_shard_size": 4}}


def test_pairs_are_shared_under_flexattention(tmp_path):
    recipe = loaded(tmp_path, "sequence_parallel_size: 2\nattn_implementation: flex_attention\n", "apo")
    assert (recipe.sequence_parallel_size, recipe.attn_implementation) == (2, "flex_attention")


@pytest.mark.parametrize(
    ("kind", "text", "launch", "told"),
    [
        ("sft", "packing: true\n", {}, None),
        ("sft", "packing: true\nsequence_parallel_size: 2\n", {"distributed_type": "FSDP"}, None),
        (
            "sft",
            "sequence_parallel_size: 2\n",
            {"distributed_type": "DEEPSPEED"},
            ":4: sequence_parallel_size: expected 1 beside DeepSpeed, got 2; launch with fsdp2.yaml",
        ),
        ("sft", "packing: true\n", DP, None),
        (
            "sft",
            "sequence_parallel_size: 2\n",
            DP,
            ":4: sequence_parallel_size: expected 1 beside a parallelism_config of accelerate, got 2; leave one of the "
            "two out",
        ),
        ("sft", "packing: false\n", CP, None),
        (
            "sft",
            "packing: true\n",
            CP,
            ": expected rows of one document under context parallelism, whose ring attends to rows whole, got packed "
            "ones and parallelism_config_cp_size 2; leave it out and write sequence_parallel_size: 2, or write "
            "packing: false",
        ),
        (
            "apo",
            "",
            CP,
            ": expected rows of one document under context parallelism, whose ring attends to rows whole, got packed "
            "ones and parallelism_config_cp_size 2; leave it out and write sequence_parallel_size: 2, or write "
            "packed_pairs: false",
        ),
        ("apo", "packed_pairs: false\n", CP, None),
        (
            "sft",
            "sequence_parallel_size: 4\n",
            CP,
            ":4: sequence_parallel_size: expected 1 beside context parallelism, got 4 and parallelism_config_cp_size "
            "2; leave one of the two out",
        ),
        (
            "sft",
            "",
            TP,
            ": expected a launch without tensor parallelism, since each process loads the model whole before FSDP2 "
            "divides it, got parallelism_config_tp_size 2; leave it out, and divide weights with fsdp2.yaml and rows "
            "with sequence_parallel_size",
        ),
        (
            "apo",
            "",
            SP,
            ": expected a launch without DeepSpeed's sequence parallelism, got parallelism_config_sp_size 2; leave it "
            "out, launch with fsdp2.yaml and write sequence_parallel_size: 2",
        ),
    ],
)
def test_launches_that_divide_what_a_training_does_not_are_told(tmp_path, kind, text, launch, told):
    recipe, division = loaded(tmp_path, text, kind), division_of_file(launch)
    assert division_problem(recipe, division) == (told and f"{tmp_path}/{kind}.yaml{told}")
    assert (untested(recipe, division) is not None) == (launch is CP)


def test_what_accelerate_divides_is_read_of_the_environment(monkeypatch):
    for key, value in {"USE_DEEPSPEED": "true", "USE_PARALLELISM_CONFIG": "true"}.items():
        monkeypatch.setenv(f"ACCELERATE_{key}", value)
    monkeypatch.setenv("PARALLELISM_CONFIG_CP_SIZE", "2")
    monkeypatch.setenv("PARALLELISM_CONFIG_TP_SIZE", "1")
    assert division_here() == Division(True, True, {"cp": 2})
    monkeypatch.delenv("ACCELERATE_USE_PARALLELISM_CONFIG")
    assert division_here() == Division(True, False, {})


@pytest.mark.parametrize(
    ("heads", "size", "told"),
    [
        ({"num_attention_heads": 16, "num_key_value_heads": 4}, 4, None),
        (
            {"num_attention_heads": 16, "num_key_value_heads": 4},
            8,
            ("a divisor of 4 (1, 2, 4), the model's key-value heads", "write one of those"),
        ),
        (
            {"num_attention_heads": 6, "num_key_value_heads": 6},
            4,
            ("a divisor of 6 (1, 2, 3, 6), the model's key-value heads", "write one of those"),
        ),
        ({"num_attention_heads": 12}, 4, None),
        ({"num_attention_heads": 9, "num_key_value_heads": 3}, 3, None),
        ({}, 2, ("1 beside a model whose config.json gives no number of key-value heads", "leave the key out")),
    ],
)
def test_heads_that_processes_do_not_divide_are_told(heads, size, told):
    assert heads_problem(SimpleNamespace(**heads), size) == (told and Unshared(*told))


def test_heads_and_what_else_rows_cannot_be_shared_beside_have_cures_of_their_own(tmp_path):
    recipe = loaded(tmp_path, "sequence_parallel_size: 3\n")
    heads = heads_problem(SimpleNamespace(num_attention_heads=16, num_key_value_heads=4), 3)
    where = f"{tmp_path}/sft.yaml:4: sequence_parallel_size:"
    assert str(sharing_refused(recipe, heads)) == (
        f"{where} expected a divisor of 4 (1, 2, 4), the model's key-value heads, got 3; write one of those"
    )
    assert str(sharing_refused(recipe, unshared("conv layers"))) == (
        f"{where} expected 1 beside conv layers, got 3; leave the key out, or train without that"
    )
