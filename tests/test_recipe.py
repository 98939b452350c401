"""Configuration: every recipe loads, old keys are mapped, mistakes are one sentence and fast."""

import dataclasses
import resource
from pathlib import Path

import pytest
import yaml
from helpers import ROOT, python

from apo_soup.config.kinds import stage_of_file
from apo_soup.config.library_keys import Key, keys_of
from apo_soup.config.recipe import convert, load
from apo_soup.errors import UserError
from apo_soup.plan.check import check_recipe
from apo_soup.runs.members import member_recipes

STAGE_FILES = sorted(f for f in (ROOT / "recipes").glob("*/*.yaml") if stage_of_file(f))


@pytest.mark.parametrize("file", STAGE_FILES, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_every_recipe_loads(file):
    recipe = load(file, stage_of_file(file))
    assert recipe.values["output_dir"]
    assert not recipe.notes, "our own recipes use today's keys"


LAUNCHES = {
    "cpu": (None, None),
    "ddp": ("MULTI_GPU", "bf16"),
    "fsdp2": ("FSDP", "bf16"),
    "zero2": ("DEEPSPEED", "bf16"),
    "zero3": ("DEEPSPEED", "bf16"),
}


def test_every_launch_file_is_one_that_accelerate_reads():
    from accelerate.commands.config.config_args import load_config_from_file

    files = {file.stem: load_config_from_file(str(file)) for file in (ROOT / "recipes" / "accelerate").glob("*.yaml")}
    assert files.keys() == LAUNCHES.keys()
    for name, (kind, precision) in LAUNCHES.items():
        if kind is None:
            assert (files[name].use_cpu, files[name].num_processes) == (True, 1)
        else:
            assert (files[name].distributed_type.name, files[name].mixed_precision) == (kind, precision)
    assert files["fsdp2"].fsdp_config["fsdp_version"] == 2
    assert [files[name].deepspeed_config["zero_stage"] for name in ("zero2", "zero3")] == [2, 3]


def test_every_recipe_folder_checks():
    folders = [f for f in (ROOT / "recipes").iterdir() if (f / "sft.yaml").is_file()]
    assert {f.name for f in folders} == {"tiny", "smollm2-135m", "smollm3"}
    for folder in folders:
        _, problems = check_recipe(folder)
        assert problems == []


@pytest.mark.parametrize("name", ["SFTConfig", "DPOConfig", "ModelConfig"])
def test_keys_read_from_source_are_those_of_the_installed_class(name):
    import trl

    fields = {f.name for f in dataclasses.fields(getattr(trl, name)) if f.init}
    assert set(keys_of(name)) == fields


def test_published_recipes_run_unchanged_but_for_model_and_data():
    notes = {}
    for name, stage in (("mid", "sft"), ("sft", "sft"), ("apo", "apo")):
        recipe = load(ROOT / "tests" / "handbook" / f"{name}.yaml", stage)
        notes[name] = "\n".join(recipe.notes)
        assert recipe.values["dtype"] == "bfloat16"
        assert "torch_dtype" not in recipe.values
        assert len(recipe.notes) == len(set(recipe.notes))
    assert "packing_strategy: ffd is read as bfd" in notes["sft"]
    assert "overwrite_output_dir is dropped" in notes["mid"]
    assert "warmup_ratio is read as warmup_steps" in notes["mid"]
    assert "padding_free is dropped" in notes["apo"]


def test_unknown_key_names_file_line_and_nearest(write_recipe):
    path = write_recipe("sft.yaml", {"model_name_or_path": "m", "output_dir": "o", "learning_rat": 1.0})
    with pytest.raises(UserError) as error:
        load(path, "sft")
    assert str(error.value) == f"{path}:3: unknown key learning_rat; the nearest known key is learning_rate"


def test_all_mistakes_are_told_at_once(write_recipe):
    mixture = {"datasets": [{"id": "a", "wieght": 1.0}, {"id": "b", "weight": 0}], "sede": 1}
    path = write_recipe("sft.yaml", {"output_dir": "o", "bf16": "maybe", "dataset_mixture": mixture})
    with pytest.raises(UserError) as error:
        load(path, "sft")
    text = str(error.value)
    assert f"{path}:2: key bf16 must be true or false, found 'maybe'" in text
    assert "unknown key dataset_mixture.datasets.0.wieght; the nearest known key is weight" in text
    assert "weight must be above 0" in text
    assert "unknown key dataset_mixture.sede; the nearest known key is seed" in text


@pytest.mark.parametrize(
    ("value", "annotation", "expected"),
    [
        ("1e-4", "float", 1e-4),
        (3, "float", 3.0),
        ("12", "int", 12),
        (False, "IntervalStrategy | str", "no"),
        ("sigmoid", "list[str]", ["sigmoid"]),
        ("all", "str | list", "all"),
        (None, "int | None", None),
        ({"a": 1}, "dict[str, Any] | str | None", {"a": 1}),
    ],
)
def test_values_are_converted_as_the_annotation_says(value, annotation, expected):
    assert convert(value, Key("k", annotation)) == expected


@pytest.mark.parametrize(
    ("value", "annotation"), [("x", "float"), (1.5, "int"), (True, "int"), (1, "bool"), (None, "int"), ([1], "str")]
)
def test_values_of_the_wrong_type_are_refused(value, annotation):
    with pytest.raises(ValueError, match=r"\w"):
        convert(value, Key("k", annotation))


def test_command_line_overrides_the_file_at_any_depth(write_recipe):
    mixture = {"datasets": [{"id": "a"}], "seed": 0}
    path = write_recipe("sft.yaml", {"output_dir": "o", "learning_rate": 1.0, "dataset_mixture": mixture})
    words = ["--learning_rate", "1e-4", "--dataset_mixture.datasets.0.id=b", "--dataset_mixture.seed", "7", "--bf16"]
    values = load(path, "sft", words).values
    assert values["learning_rate"] == 1e-4
    assert values["dataset_mixture"] == {"datasets": [{"id": "b"}], "seed": 7}
    assert values["bf16"] is True


def test_keys_that_cannot_be_honoured_are_refused_with_the_way_out(write_recipe):
    path = write_recipe("sft.yaml", {"output_dir": "o", "chat_template_path": "t.jinja", "max_length": None})
    with pytest.raises(UserError) as error:
        load(path, "sft")
    assert "key chat_template_path has no effect here; write chat_template with the file's path" in str(error.value)
    assert "max_length must be a whole number, found null" in str(error.value)


def test_nested_keys_of_every_stage_are_checked(write_recipe):
    path = write_recipe("pairs.yaml", {"output_dir": "o", "strong": {"model": "m", "temprature": 1}})
    with pytest.raises(UserError, match=r"unknown key strong\.temprature; the nearest known key is temperature"):
        load(path, "pairs")
    path = write_recipe("eval.yaml", {"output_dir": "o", "tasks": [{"name": "a", "verfier": "number"}]})
    with pytest.raises(UserError, match=r"unknown key tasks\.0\.verfier; the nearest known key is verifier"):
        load(path, "eval")


def test_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / "sft.yaml"
    path.write_text("output_dir: a\nseed: 1\nseed: 2\n")
    with pytest.raises(UserError, match=r"sft.yaml:3: key seed is given twice \(first on line 2\)"):
        load(path, "sft")


def test_members_override_the_file_and_are_checked(write_recipe):
    path = write_recipe("apo.yaml", {"output_dir": "o", "beta": 0.05, "members": [{"seed": 1}, {"beta": "0.1"}]})
    first, second = member_recipes(load(path, "apo"))
    assert (first.values["seed"], first.values["beta"], first.values["output_dir"]) == (1, 0.05, str(Path("o") / "1"))
    assert (second.values["beta"], second.values["output_dir"]) == (0.1, str(Path("o") / "2"))
    bad = write_recipe("apo.yaml", {"output_dir": "o", "members": [{"bta": 1}]})
    with pytest.raises(UserError, match="unknown key bta; the nearest known key is beta"):
        member_recipes(load(bad, "apo"))


def cpu_seconds_of_children() -> float:
    """Processor time of finished child processes, which a busy machine does not stretch as it does the clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


MISTAKES = {
    "unknown key": ({"learning_rat": 1}, "unknown key learning_rat; the nearest known key is learning_rate"),
    "wrong type": ({"seed": "x"}, "key seed must be a whole number, found 'x'"),
    "missing model": ({"model_name_or_path": "./nowhere"}, "model folder ./nowhere does not exist"),
    "not a model": ({"model_name_or_path": "recipes"}, "recipes is not a model folder: it has no config.json"),
    "missing rows": ({"dataset_mixture": {"datasets": [{"id": "no.jsonl"}]}}, "data file no.jsonl does not exist"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_users_mistake_is_one_sentence_exit_2_in_a_second(name, write_recipe, write_rows, tiny_model):
    change, expected = MISTAKES[name]
    rows = write_rows("rows.jsonl", [{"messages": []}])
    good = {
        "model_name_or_path": str(tiny_model),
        "output_dir": "o",
        "dataset_mixture": {"datasets": [{"id": str(rows)}]},
    }
    path = write_recipe("sft.yaml", good | change)
    before = cpu_seconds_of_children()
    result = python("-m", "sft", "--config", path)
    assert result.returncode == 2
    assert expected in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.stderr
    assert cpu_seconds_of_children() - before < 1.0


@pytest.mark.parametrize("program", ["sft", "apo", "apo.pairs", "merge", "merge.sweep", "apo_soup", "apo_soup.toy"])
def test_help_answers_in_a_second(program):
    before = cpu_seconds_of_children()
    result = python("-m", program, "--help")
    assert result.returncode == 0
    assert "usage" in result.stdout.lower()
    assert cpu_seconds_of_children() - before < 1.0


def test_a_missing_file_is_told(tmp_path):
    result = python("-m", "apo", "--config", tmp_path / "none.yaml")
    assert result.returncode == 2
    assert "none.yaml is not a file" in result.stderr


def test_broken_yaml_names_its_line(tmp_path):
    path = tmp_path / "sft.yaml"
    path.write_text("seed: 1\nlist: [1, 2\nx: y\n")
    with pytest.raises(UserError, match=r"sft.yaml:\d+: not valid YAML"):
        load(path, "sft")


def test_recipes_are_yaml_that_safe_load_reads():
    for file in (ROOT / "recipes").rglob("*.yaml"):
        assert isinstance(yaml.safe_load(file.read_text()), dict), file


def test_a_member_may_reach_inside_and_use_old_names(write_recipe):
    """Dotted names and renamed keys work as in a file, and what a member cannot have is told."""
    sources = {"datasets": [{"id": "a.jsonl"}, {"id": "b.jsonl", "weight": 0.5}]}
    base = {"model_name_or_path": "m", "output_dir": "o", "dataset_mixture": sources}
    members = [{"dataset_mixture.datasets.1.weight": 0.25, "warmup_ratio": 0.2}, {"seed": 2}]
    first, second = member_recipes(load(write_recipe("apo.yaml", {**base, "members": members}), "apo"))
    assert first.values["dataset_mixture"]["datasets"][1]["weight"] == 0.25
    assert first.values["warmup_steps"] == 0.2
    assert second.values["dataset_mixture"]["datasets"][1]["weight"] == 0.5
    for member, told in (
        ({"members": []}, "a member has none"),
        ({"output_dir": "x"}, "a member's folder is OUTPUT_DIR/1"),
        ({"loss_type": "apo_zro"}, "no loss_type is called apo_zro; the nearest is apo_zero"),
        ({"dataset_mixture.datasets.7.weight": 1.0}, "there is no 7 to reach into"),
    ):
        with pytest.raises(UserError, match=told):
            member_recipes(load(write_recipe("apo.yaml", {**base, "members": [member]}), "apo"))
    with pytest.raises(UserError, match="train_sampling_strategy must be one of random, sequential"):
        load(write_recipe("apo.yaml", {**base, "train_sampling_strategy": "group_by_length"}), "apo")
