"""`apo-soup plan`: what it says is what a training then does."""

import json

import pytest
import yaml
from helpers import TRAINING, chat, preference, python
from programs import program, run_ok

ROWS = [chat(f"What is {n} + {n}?", f"It is {2 * n}.") for n in range(30)]
PAIRS = [preference(f"What is {n} + {n}?", f"It is {2 * n}.", f"It is {n}, or so I think.") for n in range(14)]


@pytest.fixture
def recipe(tmp_path, write_rows, write_recipe, tiny_model):
    """A folder with sft.yaml and apo.yaml; keyword arguments are keys of both."""

    def make(**changes):
        common = TRAINING | {"model_name_or_path": str(tiny_model), "save_strategy": "no", "warmup_steps": 0.2}
        common |= {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "num_train_epochs": 2}
        for kind, rows, own in (
            ("sft", ROWS, {"assistant_only_loss": True, "packing": True}),
            ("apo", PAIRS, {"loss_type": "apo_zero", "members": [{"seed": 1}, {"seed": 2}]}),
        ):
            file = {"dataset_mixture": {"datasets": [{"id": str(write_rows(f"{kind}.jsonl", rows))}], "seed": 0}}
            file |= {"output_dir": str(tmp_path / "run" / kind)}
            keys = common | file | own | {n: v for n, v in changes.items() if kind == "apo" or n != "members"}
            write_recipe(f"{kind}.yaml", {name: value for name, value in keys.items() if value is not None})
        return tmp_path

    return make


def planned(folder, *words):
    return json.loads(run_ok("-m", "apo_soup", "plan", folder, "--json", *words))["stages"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dataloader_drop_last": True},
        {"max_steps": 3},
        {"global_batch_size": 8, "gradient_accumulation_steps": 4},
        {"global_batch_size": 4, "gradient_accumulation_steps": None, "dataloader_drop_last": True},
        {"accelerator_config": {"gradient_accumulation_kwargs": {"num_steps": 2}}, "gradient_accumulation_steps": 1},
    ],
)
def test_steps_rows_and_tokens_are_those_of_the_training(recipe, changes):
    folder = recipe(members=[{"seed": 1}], **changes)
    stages = planned(folder)
    assert list(stages) == ["sft", "apo/1"]
    for stage, part in (("sft", ""), ("apo", "1")):
        run_ok("-m", stage, "--config", folder / f"{stage}.yaml")
        made = folder / "run" / stage / part
        metrics = json.loads((made / "manifest.json").read_text())["metrics"]
        plan = stages["apo/1" if part else "sft"]
        assert plan["steps"] == metrics["steps"]
        log = json.loads((made / "trainer_state.json").read_text())["log_history"]
        peak = max(entry["learning_rate"] for entry in log if "learning_rate" in entry)
        assert next(n for n, e in enumerate(log) if e.get("learning_rate") == peak) == plan["warmup_steps"]
        assert metrics["planned"] == {k: v for k, v in plan.items() if k not in ("memory", "notes")}
    sft = stages["sft"]
    assert sft["rows"] == 30
    assert stages["apo/1"]["rows"] == stages["apo/1"]["sequences"] == 14


def test_members_have_rows_and_steps_of_their_own(recipe):
    folder = recipe(
        members=[{"seed": 1}, {"seed": 2, "num_train_epochs": 1}, {"dataset_mixture.datasets.0.weight": 0.5}]
    )
    (folder / "sft.yaml").unlink()
    stages = planned(folder)
    assert [stages[f"apo/{n}"]["rows"] for n in (1, 2, 3)] == [14, 14, 7]
    assert [stages[f"apo/{n}"]["steps"] for n in (1, 2, 3)] == [6, 3, 4]


def test_stages_are_named_by_their_files_whatever_their_folders(recipe):
    folder = recipe(max_steps=1, output_dir=None)
    for kind in ("sft", "apo"):
        file = folder / f"{kind}.yaml"
        file.write_text(file.read_text() + f"output_dir: {folder}/run/{kind}/model\n")
    assert list(planned(folder)) == ["sft", "apo/1", "apo/2"]
    assert {path.parent.name for path in folder.rglob("plan.json")} == {"sft", "apo"}


def test_a_model_that_cannot_be_run_without_data_has_rows_and_steps(recipe, tmp_path, tiny_model):
    from transformers import AutoTokenizer, Qwen3MoeConfig, Qwen3MoeForCausalLM

    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = Qwen3MoeConfig(**shape, num_key_value_heads=2, num_experts=4, moe_intermediate_size=16, vocab_size=1024)
    Qwen3MoeForCausalLM(config).save_pretrained(tmp_path / "moe")
    AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "moe")
    folder = recipe(model_name_or_path=str(tmp_path / "moe"))
    (folder / "apo.yaml").unlink()
    plan = planned(folder)["sft"]
    assert plan["rows"] == 30
    assert plan["steps"] > 0
    assert plan["peak_memory_bytes"] is None or plan["peak_memory_bytes"] > 1e8


@pytest.mark.parametrize("name", ["Gemma2", "GPT2"])
def test_models_of_other_attentions_are_planned(recipe, tmp_path, tiny_model, name):
    import transformers

    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    shape |= {"intermediate_size": 64, "num_key_value_heads": 2, "head_dim": 8} if name == "Gemma2" else {}
    config = getattr(transformers, f"{name}Config")(**shape, vocab_size=1024)
    getattr(transformers, f"{name}ForCausalLM" if name != "GPT2" else "GPT2LMHeadModel")(config).save_pretrained(
        tmp_path / "other"
    )
    transformers.AutoTokenizer.from_pretrained(tiny_model).save_pretrained(tmp_path / "other")
    folder = recipe(model_name_or_path=str(tmp_path / "other"))
    (folder / "apo.yaml").unlink()
    assert planned(folder)["sft"]["peak_memory_bytes"] > 1e8


def test_a_plan_of_other_keys_is_not_taken_along(recipe):
    folder = recipe(max_steps=2)
    planned(folder)
    run_ok("-m", "sft", "--config", folder / "sft.yaml", "--learning_rate", "0.001")
    assert "planned" not in json.loads((folder / "run/sft/manifest.json").read_text())["metrics"]


def test_a_global_batch_is_told_for_every_launch(recipe):
    folder = recipe()
    eight = planned(folder, "--launch", "fsdp2.yaml")["sft"]
    one = planned(folder)["sft"]
    assert (one["global_batch"], eight["global_batch"]) == (6, 48)
    assert eight["steps"] < one["steps"]


def test_processes_that_share_rows_divide_activations_and_count_as_one(recipe):
    """The tiny model has two key-value heads."""
    folder = recipe(max_length=512, per_device_train_batch_size=1)
    alone = planned(folder, "--launch", "fsdp2.yaml")["sft"]
    folder = recipe(max_length=512, per_device_train_batch_size=1, sequence_parallel_size=2)
    shared = planned(folder, "--launch", "fsdp2.yaml")["sft"]
    assert (alone["global_batch"], shared["global_batch"]) == (24, 12)
    assert all(stage["steps"] == 2 * -(-stage["sequences"] // stage["global_batch"]) for stage in (alone, shared))
    parts = [stage["memory"] for stage in (alone, shared)]
    assert parts[1]["weights"] == parts[0]["weights"]
    assert parts[1]["passes"] < 0.75 * parts[0]["passes"]

    recipe(sequence_parallel_size=4)
    ended = program("-m", "apo_soup", "plan", folder, "--launch", "fsdp2.yaml")
    place = f"{folder}/sft.yaml:"
    assert ended.returncode == 2
    assert place in ended.stderr
    told = (
        "sequence_parallel_size: expected a divisor of 2 (1, 2), the model's key-value heads, got 4; write one of those"
    )
    assert told in ended.stderr
    ended = program("-m", "apo_soup", "plan", folder)
    assert told in ended.stderr


def test_rows_are_prepared_once_for_plan_and_run(recipe):
    folder = recipe(max_steps=1)
    planned(folder)
    assert "prepared rows found in" in run_ok("-m", "sft", "--config", folder / "sft.yaml")


def test_rows_that_nobody_has_made_are_not_known(recipe, write_recipe, tmp_path, tiny_model):
    folder = recipe()
    side = {"model": str(tiny_model)}
    pairs = {"output_dir": str(tmp_path / "run/pairs"), "prompts": {"id": str(tmp_path / "sft.jsonl")}, "mode": "think"}
    write_recipe("pairs.yaml", pairs | {"strong": side, "weak": side})
    text = (folder / "apo.yaml").read_text().replace(str(folder / "apo.jsonl"), str(tmp_path / "run/pairs/train.jsonl"))
    (folder / "apo.yaml").write_text(text)
    plan = planned(folder)["apo/1"]
    assert plan["steps"] is plan["rows"] is plan["seconds"] is None
    assert plan["peak_memory_bytes"] > 1e8
    assert "rows are not known before pairs.yaml has made them" in plan["notes"][0]


def test_a_table_for_people_names_what_was_assumed(recipe):
    told = run_ok("-m", "apo_soup", "plan", recipe(), "--launch", "ddp.yaml", "--gpu", "4090", "--price", "0.5")
    assert "stage  rows  tokens" in told
    assert "for 8 GPUs, ddp; memory is of one" in told
    assert "at 0.5 an hour: 40% of the 165 TFLOP/s of one 4090 assumed" in told


HARD_TO_MEASURE = {
    "load_best_model_at_end": True, "metric_for_best_model": "loss", "eval_strategy": "steps", "eval_steps": 5,
    "save_strategy": "steps", "save_steps": 5, "eval_on_start": True, "warmup_steps": 100,
    "lr_scheduler_type": "reduce_lr_on_plateau",
}  # fmt: skip


def test_three_steps_in_order_and_of_the_longest_are_measured_once_for_members_alike(recipe):
    """Whatever evaluations, best checkpoints and schedules a file asks for, and whatever its folder is called."""
    folder = recipe(**HARD_TO_MEASURE)
    (folder / "sft.yaml").unlink()
    apo = yaml.safe_load((folder / "apo.yaml").read_text())
    apo["dataset_mixture"]["test_split_size"] = 2
    apo["output_dir"] = str(folder / "run" / "preferences")
    apo["members"] = [{"seed": seed, "max_length": 64, "max_steps": 200} for seed in (1, 2)]
    apo["checkpoints"] = [1]
    (folder / "apo.yaml").write_text(yaml.safe_dump(apo))
    before = {path for path in folder.rglob("*") if "prepared" not in path.parts}
    ended = program("-m", "apo_soup", "plan", folder, "--json", "--measure")
    assert ended.returncode == 0, ended.stderr
    told = [line for line in ended.stderr.splitlines() if line.endswith("3 of the longest")]
    assert told == ["apo/1: 3 steps are measured, then 3 of the longest"]
    one, two = json.loads(ended.stdout)["stages"].values()
    measured = one["measured"]
    assert measured == two["measured"]
    assert one["seconds"] == pytest.approx(measured["step_seconds"] * one["steps"], abs=0.1)
    assert measured["longest_step_seconds"] > 0
    assert 1e8 < measured["peak_memory_bytes"] < 4e9
    left = {path for path in folder.rglob("*") if "prepared" not in path.parts} - before
    assert {path.name for path in left} == {"run", "plan.json"}


def test_a_measurement_that_fails_leaves_nothing_either(recipe):
    folder = recipe(model_init_kwargs={"foo": 1})
    (folder / "apo.yaml").unlink()
    ended = program("-m", "apo_soup", "plan", folder, "--measure")
    assert ended.returncode == 2
    assert "sft.yaml: expected 3 steps of sft, got exit code 2" in ended.stderr
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_what_does_not_fit_is_told_with_the_ways_in_order(recipe, write_recipe, tmp_path, tiny_model):
    folder = recipe(max_length=200_000, per_device_train_batch_size=64, global_batch_size=512)
    for name in ("sft", "apo"):
        text = (folder / f"{name}.yaml").read_text()
        (folder / f"{name}.yaml").write_text(text.replace("gradient_accumulation_steps: 3\n", ""))
    long = [chat("Go on.", "word " * 60_000)] * 24
    (folder / "sft.jsonl").write_text("".join(json.dumps(row) + "\n" for row in long))
    notes = planned(folder, "--launch", "ddp.yaml", "--gpu", "4090")["sft"]["notes"]
    packed, few, too_large = notes
    assert "packed, a step has" in packed
    assert "optimiser step" in few
    first, second = too_large.index("per_device_train_batch_size: 1"), too_large.find("gradient_checkpointing: true")
    assert first < second or second == -1


def test_a_faulty_recipe_ends_as_check_does(recipe):
    folder = recipe(learning_rate=-1)
    ended = program("-m", "apo_soup", "plan", folder)
    assert ended.returncode == 2
    assert f"{folder}/sft.yaml" in ended.stderr
    assert "expected" in ended.stderr


def test_an_unknown_gpu_is_told():
    ended = python("-m", "apo_soup", "plan", "recipes/smollm3", "--launch", "ddp.yaml", "--gpu", "h1000")
    assert ended.returncode == 2
    assert "--gpu: expected one of a100, h100" in ended.stderr
