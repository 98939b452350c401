"""A recipe's errors, all at once, and the table of its training files."""

import json
import re
import shutil

import pytest
from helpers import ROOT
from transformers import Gemma3TextConfig

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.plan.check import check_recipe, training_table
from apo_soup.plan.tried import tried_problems


def test_every_error_of_a_recipe_is_told_at_once(tmp_path):
    (tmp_path / "sft.yaml").write_text("output_dir: runs/x/sft\nlearning_rat: 1\n")
    (tmp_path / "merge.yaml").write_text("output_dir: runs/x\nsoup: 3\n")
    (tmp_path / "notes.yaml").write_text("anything: 1\n")
    recipes, problems = check_recipe(tmp_path)
    assert recipes == []
    assert any(p.startswith(f"{tmp_path}/sft.yaml:2: learning_rat: expected a known key") for p in problems)
    assert any(p.startswith(f"{tmp_path}/merge.yaml:2: soup:") for p in problems)
    assert not any("notes.yaml" in p for p in problems)


def test_a_members_error_is_told_too(tmp_path):
    text = (ROOT / "recipes" / "tiny" / "apo.yaml").read_text().replace("  - seed: 3", "  - sed: 3")
    (tmp_path / "apo.yaml").write_text(text)
    (tmp_path / "recipe.yaml").write_text("name: tiny\n")
    recipes, problems = check_recipe(tmp_path)
    assert recipes == []
    assert len(problems) == 1
    assert "sed: expected a known key, got an unknown one; the nearest is seed" in problems[0]


def test_errors_of_the_file_and_of_each_member_are_told_together(tmp_path):
    (tmp_path / "apo.yaml").write_text(
        "output_dir: runs/x/apo\nmodel_name_or_path: a/base\nbeta: -1\ndataset_mixture: {datasets: [{id: a.jsonl}]}\n"
        "members:\n  - {output_dir: x, seed: y}\n  - {members: 1}\n  - {betta: 1}\n  - {beta: 0.2, a.b.c: 1}\n"
    )
    _, problems = check_recipe(tmp_path)
    assert [p.removeprefix(f"{tmp_path}/apo.yaml:").partition(": expected")[0] for p in problems] == [
        "3: beta",
        "6: members.0.output_dir",
        "6: seed",
        "7: members.1.members",
        "8: betta",
        "9: a",
    ]


def test_a_folder_without_a_stage_file_is_no_recipe(tmp_path):
    assert check_recipe(tmp_path)[1] == [
        f"{tmp_path}: expected at least one of mid.yaml, sft.yaml, apo.yaml, merge.yaml and eval.yaml, got none; "
        "name a recipe's folder"
    ]
    with pytest.raises(UserError, match="expected a recipe folder, got none there"):
        check_recipe(tmp_path / "none")


def test_the_table_says_what_a_step_reads():
    recipes, problems = check_recipe(ROOT / "recipes" / "tiny")
    assert problems == []
    rows = {line.split()[0]: line for line in training_table(recipes).splitlines()[2:]}
    assert list(rows) == ["apo.yaml", "mid.yaml", "sft.yaml"]
    assert "16 pairs x 256" in rows["apo.yaml"]
    assert rows["apo.yaml"].split()[-2:] == ["2e-05", "3"]
    assert "1 sequences x 1536" in rows["mid.yaml"]
    assert "a process" not in rows["mid.yaml"]
    assert training_table([]) == ""


def test_a_batch_without_its_product_is_told_a_process(tmp_path):
    (tmp_path / "recipe.yaml").write_text("name: x\nmodel: m/m\n")
    mid = (ROOT / "recipes" / "smollm2-135m" / "mid.yaml").read_text()
    (tmp_path / "mid.yaml").write_text(mid.replace("global_batch_size: 2", "gradient_accumulation_steps: 3"))
    assert "6 sequences x 1024 a process" in training_table(check_recipe(tmp_path)[0])
    with (tmp_path / "mid.yaml").open("a") as file:
        file.write("sequence_parallel_size: 2\n")
    assert "6 sequences x 1024 a group of 2" in training_table(check_recipe(tmp_path)[0])


def test_what_a_launch_divides_is_told_of_every_training_that_it_does_not_fit(tmp_path):
    for name in ("sft", "apo"):
        text = (ROOT / "recipes" / "tiny" / f"{name}.yaml").read_text()
        (tmp_path / f"{name}.yaml").write_text(text + "sequence_parallel_size: 2\n")
    (tmp_path / "recipe.yaml").write_text("name: x\n")
    launch = tmp_path / "launch.yaml"
    launch.write_text("distributed_type: DEEPSPEED\nnum_processes: 2\ndeepspeed_config: {zero_stage: 2}\n")
    told = [problem for problem in check_recipe(tmp_path, launch)[1] if "sequence_parallel_size" in problem]
    assert len(told) == 2
    assert all("expected 1 beside DeepSpeed, got 2; launch with fsdp2.yaml (" in problem for problem in told)
    launch.write_text("distributed_type: MULTI_GPU\nnum_processes: 3\n")
    told = [problem for problem in check_recipe(tmp_path, launch)[1] if "sequence_parallel_size" in problem]
    assert len(told) == 2
    assert all("expected a divisor of the 3 processes of this launch (1, 3), got 2; launch" in each for each in told)


def test_layers_that_documents_of_shared_rows_cannot_be_kept_apart_for_are_told(tmp_path):
    path, model = tmp_path / "sft.yaml", tmp_path / "model"
    Gemma3TextConfig(sliding_window=16, num_attention_heads=4, num_key_value_heads=2).save_pretrained(model)
    path.write_text(
        f"output_dir: {tmp_path}/sft\nmodel_name_or_path: {model}\n"
        "dataset_mixture: {datasets: [{id: owner/rows}]}\n"
        "max_length: 64\nsequence_parallel_size: 2\n"
    )
    told = (
        f"{path}:5: sequence_parallel_size: expected 1 beside sliding_window 16, and documents may be longer, got 2; "
        "leave the key out, or train without that"
    )
    assert tried_problems([load(path, "sft")], tmp_path) == [told]
    pairs = path.rename(tmp_path / "apo.yaml")
    told = told.replace("sft.yaml", "apo.yaml").replace("sliding_window 16, and documents may be longer", "{}")
    assert tried_problems([load(pairs, "apo")], tmp_path) == [told.format("a model with sliding-window attention")]


def test_batches_that_the_processes_of_a_launch_do_not_divide_are_told_together(tmp_path):
    """Of soup members too, which may have batches of their own."""
    for name, old, new in (
        (
            "sft",
            "global_batch_size: 5\nper_device_train_batch_size: 5",
            "global_batch_size: 16\nper_device_train_batch_size: 8",
        ),
        ("apo", "  - seed: 2", "  - seed: 2\n    global_batch_size: 24\n    per_device_train_batch_size: 4"),
    ):
        text = (ROOT / "recipes" / "tiny" / f"{name}.yaml").read_text()
        (tmp_path / f"{name}.yaml").write_text(text.replace(old, new))
    (tmp_path / "launch.yaml").write_text("distributed_type: MULTI_GPU\nnum_processes: 4\n")
    (tmp_path / "recipe.yaml").write_text("name: x\n")

    def told(launch):
        problems = check_recipe(tmp_path, launch)[1]
        return [p.partition(f"{tmp_path}/")[2] for p in problems if "processes" in p]

    assert told(None) == []
    assert told(tmp_path / "launch.yaml") == [
        "apo.yaml:28: global_batch_size: expected a multiple of 64, which is per_device_train_batch_size 16 x 4 "
        "processes, got 16; write per_device_train_batch_size 4, or a global batch of 64",
        "apo.yaml:18: global_batch_size: expected a multiple of 16, which is per_device_train_batch_size 4 x 4 "
        "processes, got 24; write per_device_train_batch_size 3, or a global batch of 16 or 32",
        "sft.yaml:24: global_batch_size: expected a multiple of 32, which is per_device_train_batch_size 8 x 4 "
        "processes, got 16; write per_device_train_batch_size 4, or a global batch of 32",
    ]


def test_more_rows_held_out_than_there_are_is_told(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b"}\n' * 9)
    given = f"model_name_or_path: m/m\noutput_dir: {tmp_path}/o\n"
    sources = "dataset_mixture: {datasets: [{id: rows.jsonl}], test_split_size: 2000}\n"
    (tmp_path / "sft.yaml").write_text(given + sources)
    assert check_recipe(tmp_path)[1] == [
        f"{tmp_path}/sft.yaml:3: dataset_mixture.test_split_size: expected a size that leaves a row to train on, got "
        "2000 of at most 9 rows; take a smaller one, or leave the key out"
    ]
    for change in (sources.replace("2000", "8"), f"{sources}train_on: unroll\n"):
        (tmp_path / "sft.yaml").write_text(given + change)
        assert check_recipe(tmp_path)[1] == []


@pytest.mark.parametrize("kind", ["sft", "apo"])
def test_too_few_rows_for_a_batch_that_must_be_full_are_told(tmp_path, kind):
    row = '{"prompt": "a", "chosen": "b", "rejected": "c", "completion": "b"}\n'
    (tmp_path / "rows.jsonl").write_text(row * 9)
    given = f"model_name_or_path: m/m\noutput_dir: {tmp_path}/o\n"
    given += "dataloader_drop_last: true\nper_device_train_batch_size: 8\n"
    sources = "dataset_mixture: {datasets: [{id: rows.jsonl, weight: 0.5}]}\n"
    (tmp_path / f"{kind}.yaml").write_text(given + sources)
    (told,) = check_recipe(tmp_path)[1]
    assert told == (
        f"{tmp_path}/{kind}.yaml:3: dataloader_drop_last: expected at least 8 sequences or pairs, a batch, got at most "
        "5, which would all be dropped; leave the key out, or lower per_device_train_batch_size"
    )
    for change in (sources.replace("0.5", "1.0"), sources.replace("rows.jsonl", "owner/name")):
        (tmp_path / f"{kind}.yaml").write_text(given + change)
        assert check_recipe(tmp_path)[1] == []


@pytest.mark.parametrize(
    ("keys", "config", "told"),
    [
        (
            {"lora_target_modules": ["c_attn", "q_proj"]},
            {},
            "lora_target_modules.0: expected .*, got c_attn",
        ),
        ({"lora_target_modules": ["q_proj"], "lora_modules_to_save": ["lm_head"]}, {}, None),
        ({}, {"quantization_config": {"quant_method": "gptq"}}, "got .* in gptq, into which no adapter can be merged"),
        (
            {"use_peft": False},
            {"quantization_config": {"quant_method": "fp8"}},
            "all weights are trained, got .* fp8",
        ),
    ],
)
def test_a_check_sees_them_too(write_recipe, tiny_model, tmp_path, keys, config, told):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    (model / "config.json").write_text(json.dumps(json.loads((model / "config.json").read_text()) | config))
    file = {
        "model_name_or_path": str(model),
        "output_dir": "o",
        "dataset_mixture": {"datasets": [{"id": "owner/rows"}]},
        "chat_template": "apo-soup",
    }
    recipe = load(write_recipe("sft.yaml", file | {"use_peft": True} | keys), "sft")
    problems = tried_problems([recipe], tmp_path)
    assert len(problems) == (told is not None)
    assert told is None or re.search(told, problems[0])


def test_a_label_that_supervised_training_does_not_read_is_told(write_recipe, write_rows, tiny_model, tmp_path):
    rows = write_rows("rows.jsonl", [{"prompt": "a", "completion": "b", "label": True, "mood": 1}])
    file = {"model_name_or_path": str(tiny_model), "output_dir": "o", "chat_template": "apo-soup"}
    recipe = load(write_recipe("sft.yaml", file | {"dataset_mixture": {"datasets": [{"id": str(rows)}]}}), "sft")
    assert tried_problems([recipe], tmp_path) == []
    assert [note.split(": ", 1)[1] for note in recipe.notes] == [
        "dataset_mixture.datasets.0.id: field label of its rows is not used, and such a field says how a row is to be "
        "used"
    ]
