"""Configurations of axolotl, LLaMA-Factory and ms-swift as recipes: copies of their keys, not of their files."""

import contextlib
import json
import random
from itertools import permutations

import pytest
import yaml
from helpers import ROOT

from apo_soup.errors import UserError
from apo_soup.plan.check import check_recipe
from apo_soup.scaffold.converted import convert_recipe, converted_keys, leave_out_wrong
from apo_soup.scaffold.foreign_axolotl import AXOLOTL as AXOLOTL_KEYS
from apo_soup.scaffold.foreign_llama_factory import LLAMA_FACTORY as LLAMA_FACTORY_KEYS
from apo_soup.scaffold.foreign_swift import MS_SWIFT as MS_SWIFT_KEYS

BASE = ROOT / "recipes" / "tiny" / "base"
AXOLOTL = f"""
base_model: {BASE}
load_in_4bit: false
strict: false
datasets:
  - {{path: json, data_files: rows.jsonl, type: chat_template, field_messages: talk}}
dataset_prepared_path: last_run_prepared
val_set_size: 0.1
output_dir: ./outputs/lora-out
adapter: lora
sequence_len: 512
sample_packing: true
lora_r: 32
lora_alpha: 16
lora_dropout: 0.05
lora_target_linear: true
gradient_accumulation_steps: 4
micro_batch_size: 2
num_epochs: 3
optimizer: adamw_torch_fused
lr_scheduler: cosine
learning_rate: 2e-4
bf16: false
gradient_checkpointing: true
flash_attention: true
logging_steps: 1
warmup_ratio: 0.1
evals_per_epoch: 4
saves_per_epoch: 1
weight_decay: 0.0
eot_tokens: [<|im_end|>]
plugins: [axolotl.integrations.liger.LigerPlugin]
torchdistx_path:
lora_model_dir:
"""
LLAMA_FACTORY = f"""
model_name_or_path: {BASE}
stage: dpo
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
pref_beta: 0.1
pref_loss: sigmoid
dataset: mine,other
template: llama3
cutoff_len: 2048
max_samples: 1000
output_dir: saves/dpo
per_device_train_batch_size: 1
gradient_accumulation_steps: 8
learning_rate: 5.0e-6
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: false
"""

SWIFT_SFT = f"""
CUDA_VISIBLE_DEVICES=0,1 NPROC_PER_NODE=2 swift sft \\
    --model {BASE} --tuner_type lora --torch_dtype bfloat16 --attn_impl flash_attn \\
    --dataset rows.jsonl#500 swift/mix:en/zh --columns '{{"q": "query", "a": "response"}}' \\
    --split_dataset_ratio 0.01 --num_train_epochs 1 --per_device_train_batch_size 3 \\
    --learning_rate 1e-4 --lora_rank 8 --target_modules all-linear --warmup_ratio 0.05 \\
    --max_length 2048 --truncation_strategy right --system 'You help.' --model_author me \\
    --eval_steps 50 --save_steps 50 --save_total_limit 2 --output_dir output --deepspeed zero2
"""
SWIFT_DPO = f"""
rlhf_type: dpo
model: {BASE}
ref_model: {BASE}
tuner_type: full
dataset: rows.jsonl
torch_dtype: float32
beta: 0.2
rpo_alpha: 0.1
learning_rate: 1e-6
gradient_accumulation_steps: 16
warmup_ratio: 0.05
"""


@pytest.fixture
def converted(tmp_path, monkeypatch):
    """Convert a text; gives what the stage file holds, and the table by key."""
    monkeypatch.chdir(tmp_path)

    def convert(text, kind, name="theirs.yml"):
        (tmp_path / name).write_text(text)
        said = []
        file = convert_recipe("mine", name, said.append)
        assert file.name == f"{kind}.yaml"
        rows = [line.split("  ", 1) for line in said[1].splitlines()[2:]]
        return yaml.safe_load(file.read_text()), {key: rest.strip() for key, rest in rows}

    return convert


def test_a_configuration_of_axolotl_is_a_recipe_that_passes_check(converted, tmp_path):
    row = {"talk": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    keys, fate = converted(AXOLOTL, "sft")
    assert check_recipe(tmp_path / "mine")[1] == []
    assert keys["dataset_mixture"] == {
        "datasets": [{"id": "../rows.jsonl", "rename": {"talk": "messages"}}],
        "seed": 0,
        "test_split_size": 0.1,
    }
    expected = {
        "use_peft": True, "lora_r": 32, "lora_target_modules": "all-linear", "max_length": 512, "packing": True,
        "per_device_train_batch_size": 2, "num_train_epochs": 3, "optim": "adamw_torch_fused", "learning_rate": 2e-4,
        "lr_scheduler_type": "cosine", "attn_implementation": "flash_attention_2", "warmup_steps": 0.1, "bf16": False,
        "save_strategy": "epoch", "eval_strategy": "steps", "eval_steps": 0.083333, "assistant_only_loss": True,
    }  # fmt: skip
    assert {name: keys.get(name) for name in expected} == expected
    assert fate["dataset_prepared_path"].startswith("left out")
    assert fate["plugins"].endswith("plugins are axolotl's own")
    assert fate["sequence_len"] == "max_length: 512"
    assert not {"torchdistx_path", "strict"} & fate.keys()
    assert fate["output_dir"].endswith("the recipe's name says it")


def test_a_value_that_is_none_here_is_left_out_with_its_sentence(converted):
    text = f"base_model: {BASE}\ndatasets: [{{path: org/rows, type: alpaca}}]\nlr_scheduler: rex\nlora_r: 8\n"
    keys, fate = converted(text, "sft")
    assert not {"lr_scheduler_type", "lora_r"} & keys.keys()
    assert "got 'rex'" in fate["lr_scheduler"]
    assert "expected use_peft: true beside it" in fate["lora_r"]
    assert keys["dataset_mixture"]["datasets"] == [{"id": "org/rows", "format": "alpaca"}]


def test_a_configuration_of_llama_factory_is_a_recipe(converted, tmp_path):
    (tmp_path / "data").mkdir()
    info = {"mine": {"file_name": "pairs.json", "ranking": True, "columns": {"messages": "talk", "chosen": "good"}}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    keys, fate = converted(LLAMA_FACTORY, "apo")
    assert keys["loss_type"] == "sigmoid"
    assert (keys["beta"], keys["max_length"], keys["lora_r"], keys["use_peft"]) == (0.1, 2048, 8, True)
    assert keys["dataset_mixture"]["datasets"] == [
        {"id": "../data/pairs.json", "rename": {"talk": "conversations", "good": "chosen"}},
        {"id": "../other"},
    ]
    assert "other is not in data/dataset_info.json" in fate["dataset"]
    assert fate["template"].startswith("left out")


def test_a_script_of_ms_swift_is_a_recipe_that_passes_check(converted, tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"q": "1 + 1?", "a": "2"}\n')
    keys, fate = converted(SWIFT_SFT, "sft", "train.sh")
    rename = {"q": "query", "a": "response"}
    assert keys["dataset_mixture"]["datasets"] == [
        {"id": "../rows.jsonl", "rename": rename},
        {"id": "swift/mix", "config": "en", "rename": rename},
        {"id": "swift/mix", "config": "zh", "rename": rename},
    ]
    assert keys["dataset_mixture"]["test_split_size"] == 0.01
    expected = {
        "use_peft": True, "lora_r": 8, "lora_alpha": 32, "lora_dropout": 0.05, "lora_target_modules": "all-linear",
        "bf16": True, "attn_implementation": "flash_attention_2", "max_length": 2048, "overflow": "truncate",
        "learning_rate": 1e-4, "warmup_steps": 0.05, "weight_decay": 0.1, "adam_beta2": 0.95, "num_train_epochs": 1,
        "lr_scheduler_type": "cosine", "per_device_train_batch_size": 3, "global_batch_size": 18,
        "assistant_only_loss": True, "save_steps": 50, "eval_steps": 50,
        "eval_strategy": "steps",
    }  # fmt: skip
    assert {name: keys.get(name) for name in expected} == expected
    for name, why in {
        "system": "a system turn stands in the rows",
        "model_author": "write the name into the rows, in place of {{AUTHOR}}",
        "default of use_hf": "and of Hugging Face's Hub here: see that it has them",
        "deepspeed": "accelerate's launch file says it: --launch fsdp2.yaml",
        "NPROC_PER_NODE": "accelerate's launch file says it: --launch fsdp2.yaml",
        "dataset.rows.jsonl#500": "500 rows: weight takes a share of a source's rows",
    }.items():
        assert fate[name].endswith(why)
        assert fate[name].startswith("left out")
    mixture = {"dataset_mixture": {"datasets": keys["dataset_mixture"]["datasets"][:1]}}
    (tmp_path / "mine" / "sft.yaml").write_text(yaml.safe_dump(keys | mixture | {"eval_strategy": "no"}))
    assert check_recipe(tmp_path / "mine")[1] == []


def test_preferences_of_ms_swift_keep_their_losses(converted, tmp_path):
    keys, fate = converted(SWIFT_DPO, "apo")
    assert (keys["loss_type"], keys["loss_weights"], keys["beta"]) == (["sigmoid", "sft"], [1.0, 0.1], 0.2)
    assert (keys["bf16"], keys["learning_rate"], keys["gradient_accumulation_steps"]) == (False, 1e-6, 16)
    assert not {"use_peft", "global_batch_size", "assistant_only_loss"} & keys.keys()
    assert keys["per_device_train_batch_size"] == 1, "ms-swift's own, which is 8 elsewhere"
    assert fate["ref_model"].endswith("the reference is the model that training begins with")
    assert fate["default of max_length"].startswith("left out")


def test_a_script_without_a_command_is_a_sentence(converted, tmp_path):
    with pytest.raises(
        UserError, match=r"theirs\.sh: expected a script with a swift command \(pt, sft, rlhf\), got none"
    ):
        converted("swift infer --model a\n", "sft", "theirs.sh")


def test_texts_of_ms_swift_are_trained_whole(tmp_path):
    values = {"command": "pt", "model": "a/b", "dataset": "o/r", "tuner_type": "full"}
    keys = converted_keys(values, tmp_path / "x.sh", tmp_path / "mine").keys
    assert (keys["assistant_only_loss"], keys["learning_rate"]) == (False, 1e-5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("base_model: a/b\nrl: kto\n", "theirs.yml: rl: expected supervised training, or preferences by one of"),
        ("base_model: a/b\nreward_model: true\n", "got a reward model, which is another method"),
        ("model_name_or_path: a/b\nstage: ppo\ncutoff_len: 8\n", "theirs.yml: stage: expected supervised training"),
        ("learning_rate: 1\n", "theirs.yml: expected a configuration of axolotl"),
        ("model: a/b\ndataset: r\nrlhf_type: kto\n", "theirs.yml: rlhf_type: expected supervised training, or"),
        ("model: a/b\ndataset: r\nrlhf_type: dpo\nloss_type: odd\n", "loss_type: expected"),
        ("model: a/b\ndataset: r\ntask_type: seq_cls\n", "theirs.yml: task_type: expected supervised training, or"),
        ("base_model: a/b\n", "expected rows to train on, got none"),
        ("model: a/b\ndataset: []\n", "expected rows to train on, got none"),
        ("base_model:\n", "base_model: expected a model's folder or its id on the Hub, got null; write one"),
        ("base_model: a/b\nrl: [dpo]\n", 'got ["dpo"], which is another method'),
    ],
)
def test_what_cannot_be_a_recipe_is_one_sentence_and_leaves_nothing(converted, tmp_path, text, sentence):
    with pytest.raises(UserError) as raised:
        converted(text, "sft")
    assert sentence in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "mine").exists()


ROWS = f"base_model: {BASE}\ndatasets: [{{path: org/rows}}]\n"


@pytest.mark.parametrize(
    ("texts", "taken", "lost"),
    [
        (("warmup_steps: 10", "warmup_ratio: 0.1"), {"warmup_steps": 10}, "warmup_ratio"),
        (("warmup_steps: 0", "warmup_ratio: 0.1"), {"warmup_steps": 0.1}, "warmup_steps"),
        (("bf16: false", "bfloat16: true"), {"bf16": False}, "bfloat16"),
        (
            ("adapter: lora", "lora_target_modules: [q_proj]", "lora_target_linear: true"),
            {"lora_target_modules": "all-linear"},
            "lora_target_modules",
        ),
        (
            ("cosine_min_lr_ratio: 0.1", "lr_scheduler: cosine"),
            {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr_rate": 0.1}},
            "lr_scheduler",
        ),
        (("cosine_min_lr_ratio: 0.1", "lr_scheduler: linear"), {"lr_scheduler_type": "linear"}, "cosine_min_lr_ratio"),
    ],
)
def test_of_two_keys_for_one_of_ours_the_same_wins_in_any_order(tmp_path, texts, taken, lost):
    for order in permutations(texts):
        found = converted_keys(yaml.safe_load(ROWS + "\n".join(order)), tmp_path / "theirs.yml", tmp_path / "mine")
        assert {name: found.keys.get(name) for name in taken} == taken
        fate = {one.key: (one.words, one.why) for one in found.fate}
        assert fate[lost][0] == "left out"
        assert f"says {next(iter(taken))}: " in fate[lost][1]


ODD = [
    None, "", [], {}, 5, -1, 0.5, float("inf"), float("nan"), 10**400, True, "abc", [1, 2], ["a"], {"a": 1}, {5: [1]},
    [{"path": "json", "data_files": {"train": "a.jsonl"}, "field_messages": ["a"], "type": {"field": [1]}}],
]  # fmt: skip


@pytest.mark.parametrize(
    ("foreign", "least"),
    [
        (AXOLOTL_KEYS, {"base_model": "a/b", "datasets": [{"path": "o/r"}]}),
        (LLAMA_FACTORY_KEYS, {"model_name_or_path": "a/b", "dataset": "o/r", "cutoff_len": 5}),
        (MS_SWIFT_KEYS, {"model": "a/b", "dataset": "o/r", "rlhf_type": "dpo"}),
    ],
)
def test_odd_values_are_left_out_or_one_sentence(tmp_path, monkeypatch, foreign, least):
    monkeypatch.chdir(tmp_path)
    decisive = ("rl", "stage", "pref_loss", "datasets", "dataset", "dataset_dir", foreign.base)
    decisive += ("command", "rlhf_type", "loss_type", "loss_weights", "rpo_alpha", "task_type", "columns")
    more = ("pretraining_dataset", "val_set_size", "val_size", "saves_per_epoch", "evals_per_epoch", "report_to")
    names = sorted({*foreign.values, *foreign.renamed, *foreign.left_out, *more} - set(decisive))
    for number, odd in enumerate(ODD):
        for name in decisive:
            with contextlib.suppress(UserError):
                converted_keys({**least, "stage": "dpo", name: odd}, tmp_path / "x.yml", tmp_path / "mine")
        random.Random(number).shuffle(names)
        values = {**least, **{name: ODD[(number + place) % len(ODD)] for place, name in enumerate(names)}}
        found = converted_keys(values, tmp_path / "x.yml", tmp_path / "mine")
        with contextlib.suppress(UserError):
            leave_out_wrong(found, tmp_path / "mine")
        assert {name for name in names if values[name] not in (None, "", [], {}, False)} <= {f.key for f in found.fate}


@pytest.mark.parametrize("info", [{"columns": ["a"]}, {"file_name": 5}, {"columns": {"messages": [1]}}, [1], 5])
def test_odd_entries_of_dataset_info_are_told(converted, tmp_path, info):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps({"mine": info}))
    keys, fate = converted(f"model_name_or_path: {BASE}\ndataset: mine\ncutoff_len: 64\n", "sft")
    assert len(keys["dataset_mixture"]["datasets"]) == 1
    assert any(rest.startswith("left out") for key, rest in fate.items() if key.startswith("dataset"))


def test_the_adapter_of_llama_factory_is_its_default_with_its_numbers(tmp_path):
    values = {"model_name_or_path": "a/b", "dataset": "o/r", "cutoff_len": 64, "lora_rank": 4}
    keys = converted_keys(values, tmp_path / "x.yml", tmp_path / "mine").keys
    expected = {
        "use_peft": True,
        "lora_r": 4,
        "lora_alpha": 8,
        "lora_dropout": 0.0,
        "lora_target_modules": "all-linear",
    }
    assert {name: keys[name] for name in expected} == expected
    full = converted_keys({**values, "finetuning_type": "full"}, tmp_path / "x.yml", tmp_path / "mine").keys
    assert "use_peft" not in full


def test_parts_and_revisions_of_rows_are_taken_and_the_rest_is_told(converted, tmp_path):
    entry = "{path: o/r, revision: v1, split: b, type: {format: x, field_instruction: q}}"
    more = "pretraining_dataset: [{path: o/c}]\nval_set_size: 5%\n"
    keys, fate = converted(f"base_model: {BASE}\ndatasets: [{entry}]\n{more}", "sft")
    expected = {"id": "o/r", "revision": "v1", "split": "b", "rename": {"q": "instruction"}}
    assert keys["dataset_mixture"]["datasets"] == [expected]
    assert {"datasets.type.format", "pretraining_dataset", "val_set_size"} <= fate.keys()
    (tmp_path / "data").mkdir()
    info = {"mine": {"hf_hub_url": "o/r", "subset": "s", "split": "b", "num_samples": 5}}
    (tmp_path / "data" / "dataset_info.json").write_text(json.dumps(info))
    found = converted_keys(
        {"model_name_or_path": "a/b", "dataset": "mine", "cutoff_len": 64}, tmp_path / "x.yml", tmp_path / "other"
    )
    assert found.sources == [{"id": "o/r", "config": "s", "split": "b"}]
    assert "weight takes" in next(one.why for one in found.fate if one.key == "dataset.mine.num_samples")
