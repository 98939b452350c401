"""Stage files: every shipped one loads, old keys are mapped, the command line wins, members lay over the file."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml
from helpers import ROOT

from apo_soup.config.kinds import stage_of_file
from apo_soup.config.load import load
from apo_soup.config.members import file_problems, member_recipes
from apo_soup.errors import UserError
from apo_soup.plan.check import check_recipe

STAGE_FILES = sorted(f for f in (ROOT / "recipes").glob("*/*.yaml") if stage_of_file(f))
MODEL = {"model_name_or_path": "m", "output_dir": "o"}
TRAINING_FILE = {**MODEL, "dataset_mixture": {"datasets": [{"id": "a.jsonl"}]}}


@pytest.mark.parametrize("file", STAGE_FILES, ids=lambda f: f"{f.parent.name}/{f.name}")
def test_every_recipe_loads(file):
    recipe = load(file, stage_of_file(file))
    assert recipe.output_dir
    assert not recipe.notes, "our own recipes use today's keys"
    first = file.read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema=../schema/{recipe.kind}.json"
    assert (file.parent / first.partition("=")[2]).is_file()


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
    assert {f.name for f in folders} == {"tiny", "smollm2-135m", "smollm2-135m-lora", "smollm3", "smollm3-qlora"}
    for folder in folders:
        _, problems = check_recipe(folder)
        if folder.name == "smollm3-qlora" and not find_spec("bitsandbytes"):
            told = "load_in_4bit: expected the package bitsandbytes, which quantises the base, got none installed here"
            assert [told in problem for problem in problems] == [True] * 3
        else:
            to_bring = re.compile(
                r"expected a data file, got (data|gsm8k)/\w+\.jsonl, which is not there; correct the path"
            )
            assert [p for p in problems if not to_bring.search(p)] == []
            assert len(problems) == {"smollm2-135m": 9, "smollm2-135m-lora": 3, "smollm3-qlora": 3}.get(folder.name, 0)


def test_recipes_are_yaml_that_safe_load_reads():
    for file in (ROOT / "recipes").rglob("*.yaml"):
        assert isinstance(yaml.safe_load(file.read_text()), dict), file


def test_published_recipes_run_unchanged_but_for_model_and_data():
    notes = {}
    for name, kind in (("mid", "sft"), ("sft", "sft"), ("apo", "apo")):
        recipe = load(ROOT / "tests" / "handbook" / f"{name}.yaml", kind)
        notes[name] = "\n".join(recipe.notes)
        assert recipe.dtype == "bfloat16"
        assert len(recipe.notes) == len(set(recipe.notes))
    assert "packing_strategy: ffd is read as bfd" in notes["sft"]
    assert "overwrite_output_dir is dropped" in notes["mid"]
    assert "warmup_ratio is read as warmup_steps" in notes["mid"]
    assert "padding_free is dropped" in notes["apo"]


def test_what_supervised_training_does_not_read_is_told(write_recipe):
    keys = {"model_name_or_path": "m", "output_dir": "x", "dataset_mixture": {"datasets": [{"id": "d"}]}}
    path = write_recipe("sft.yaml", keys | {"padding_free": True})
    assert any("padding_free is not read: packing: true leaves little to pad" in n for n in load(path, "sft").notes)
    assert not any("padding_free" in note for note in load(path, "sft", ["--padding_free", "false"]).notes)


def test_defaults_are_in_place_and_never_among_what_was_given(write_recipe):
    recipe = load(write_recipe("sft.yaml", TRAINING_FILE | {"learning_rate": "1e-4", "logging_steps": 5}), "sft")
    assert (recipe.max_length, recipe.learning_rate, recipe.packing_strategy) == (1024, 1e-4, "bfd")
    assert (recipe.dataset_mixture.seed, recipe.dataset_mixture.datasets[0].weight) == (0, 1.0)
    assert recipe.gives("learning_rate")
    assert not recipe.gives("max_length")
    assert recipe.given_values() == TRAINING_FILE | {"learning_rate": 1e-4, "logging_steps": 5.0}
    assert recipe.deciding_values() == {"dataset_mixture": {"datasets": [{"id": "a.jsonl"}]}, "learning_rate": 1e-4}


def test_command_line_overrides_the_file_at_any_depth(write_recipe):
    mixture = {"datasets": [{"id": "a"}], "seed": 0}
    path = write_recipe("sft.yaml", MODEL | {"learning_rate": 1.0, "dataset_mixture": mixture})
    words = ["--learning_rate", "1e-4", "--dataset_mixture.datasets.0.id=b", "--dataset_mixture.seed", "7", "--bf16"]
    recipe = load(path, "sft", words)
    assert recipe.learning_rate == 1e-4
    assert (recipe.dataset_mixture.datasets[0].id, recipe.dataset_mixture.seed) == ("b", 7)
    assert recipe.given_values()["bf16"] is True
    assert recipe.where("learning_rate") == f"{path} (command line)"
    assert recipe.where("output_dir") == f"{path}:2"
    assert recipe.where("dataset_mixture.test_split_size") == f"{path}:4", "where it would stand"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["learning_rate"], r"sft.yaml \(command line\): expected --key value, got 'learning_rate'"),
        (["--dataset_mixture.datasets.7.id", "b"], "expected a name that leads somewhere, got 7, which is not"),
        (["--output_dir.x", "b"], "expected a name that leads somewhere, got x, which is not"),
    ],
)
def test_words_that_reach_nowhere_are_told(words, told, write_recipe):
    with pytest.raises(UserError, match=told):
        load(write_recipe("sft.yaml", TRAINING_FILE), "sft", words)


def test_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / "sft.yaml"
    path.write_text("output_dir: a\nseed: 1\nseed: 2\n")
    with pytest.raises(UserError, match=r"sft.yaml:3: seed: expected the key once, got it twice \(first on line 2\);"):
        load(path, "sft")
    both = {**TRAINING_FILE, "torch_dtype": "float32", "dtype": "float32"}
    told = "torch_dtype: expected one of torch_dtype and dtype, its newer name, got both; keep dtype"
    with pytest.raises(UserError, match=f"(?s)learning_rat: expected a known key.*{told}"):
        load(_written(tmp_path, {**both, "learning_rat": 1}), "sft")


def _written(folder: Path, values: dict) -> Path:
    path = folder / "sft.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_broken_yaml_names_its_line(tmp_path):
    path = tmp_path / "sft.yaml"
    path.write_text("seed: 1\nlist: [1, 2\nx: y\n")
    with pytest.raises(
        UserError, match=r"sft.yaml:\d+: expected valid YAML, got brackets that are not closed, .+; correct them"
    ):
        load(path, "sft")


def test_members_override_the_file_and_are_checked(write_recipe):
    path = write_recipe("apo.yaml", TRAINING_FILE | {"beta": 0.05, "members": [{"seed": 1}, {"beta": "0.1"}]})
    first, second = member_recipes(load(path, "apo"))
    assert (first.seed, first.beta, first.output_dir, first.member) == (1, 0.05, str(Path("o") / "1"), 1)
    assert (second.beta, second.output_dir, second.seed) == (0.1, str(Path("o") / "2"), 42)
    assert "members" not in second.given_values()
    bad = write_recipe("apo.yaml", TRAINING_FILE | {"members": [{"seed": 1}, {"bta": 1}]})
    with pytest.raises(UserError, match=r"apo.yaml:8: bta: expected a known key, .*; the nearest is beta"):
        member_recipes(load(bad, "apo"))


def test_a_member_may_reach_inside_and_use_old_names(write_recipe):
    """Dotted names and renamed keys work as in a file, and what a member cannot have is told."""
    sources = {"datasets": [{"id": "a.jsonl"}, {"id": "b.jsonl", "weight": 0.5}]}
    base = MODEL | {"dataset_mixture": sources}
    members = [{"dataset_mixture.datasets.1.weight": 0.25, "warmup_ratio": 0.2}, {"seed": 2}]
    first, second = member_recipes(load(write_recipe("apo.yaml", {**base, "members": members}), "apo"))
    assert first.dataset_mixture.datasets[1].weight == 0.25
    assert first.given_values()["warmup_steps"] == 0.2
    assert second.dataset_mixture.datasets[1].weight == 0.5
    for member, told in (
        ({"members": []}, r"expected no members of a member, got \[\]; leave the key out"),
        (
            {"output_dir": "x"},
            "expected no folder of a member's own, which is OUTPUT_DIR/1, got 'x'; leave the key out",
        ),
        ({"loss_type": "apo_zro"}, "got 'apo_zro'; the nearest is apo_zero"),
        ({"dataset_mixture.datasets.7.weight": 1.0}, "expected a name that leads somewhere, got 7, which is not"),
    ):
        with pytest.raises(UserError, match=told):
            member_recipes(load(write_recipe("apo.yaml", {**base, "members": [member]}), "apo"))


def test_members_that_train_alike_or_replace_each_other_on_the_hub_are_told(write_recipe):
    def told(*members, **keys):
        path = write_recipe("apo.yaml", TRAINING_FILE | {"seed": 1, **keys, "members": list(members)})
        return [sentence.partition(": ")[2] for sentence in file_problems(path)], path

    sentences, path = told({"seed": 2}, {"seed": 1}, {}, {"seed": 2, "logging_steps": 9})
    assert sentences == [
        "members.2: expected another training than that of member 2, got the same keys; give it another seed, or leave "
        "it out",
        "members.3: expected another training than that of member 1, got the same keys; give it another seed, or leave "
        "it out",
    ]
    with pytest.raises(UserError, match="expected another training than that of member 2"):
        member_recipes(load(path, "apo"))
    assert told({"model_name_or_path": "a"}, {"model_name_or_path": "b"})[0] == []
    assert told({"seed": 1}, {"seed": 2}, hub_model_id="me/x")[0] == []
    sent = {"push_to_hub": True, "hub_model_id": "me/x"}
    assert told({"seed": 1}, {"seed": 2}, **sent)[0] == [
        "hub_model_id: expected a repository for each member, got me/x for 1 and 2; give each member its own, or leave "
        "the key out"
    ]
    assert told({"seed": 1}, {"seed": 2, "hub_model_id": "me/y"}, **sent)[0] == []


def test_a_members_mistake_keeps_the_place_it_was_given_at(write_recipe):
    path = write_recipe(
        "apo.yaml", TRAINING_FILE | {"members": [{"seed": 1, "dataset_mixture": {"datasets": [{"ids": 1}]}}]}
    )

    def told(*words):
        with pytest.raises(UserError) as error:
            member_recipes(load(path, "apo", list(words)))
        return [line.strip().removeprefix(str(path)) for line in str(error.value).splitlines()]

    nested = [
        ":10: dataset_mixture.datasets.0.id: expected text, got nothing; add id to it",
        ":10: dataset_mixture.datasets.0.ids: expected a known key, got an unknown one; the nearest is id",
    ]
    assert told() == nested
    expected = "seed: expected a whole number from 0 to 2**32 - 1, got 'x'"
    whole = f" (command line): {expected}; write it in digits, or leave the key out"
    assert told("--members.0.seed", "x") == [whole, *nested]
    assert told("--members", "[{seed: x}]") == [whole]
    (deep,) = told("--members.0.dataset_mixture", "{datasets: [{id: a}], seed: x}")
    assert deep.startswith(
        " (command line): dataset_mixture.seed: expected a whole number from 0 to 2**32 - 1, got 'x'"
    )


def test_the_makers_better_settings_change_one_thing_each():
    """Beside the published recipe of SmolLM3: a lower learning rate, a higher beta, a tenth of the pairs."""
    folder = ROOT / "recipes" / "smollm3"
    published = member_recipes(load(folder / "apo.yaml", "apo"))[0].deciding_values()
    weights = [source.pop("weight") for source in published["dataset_mixture"]["datasets"]]
    changes = []
    for member in member_recipes(load(folder / "apo-ablation.yaml", "apo")):
        values = member.deciding_values()
        own = [source.pop("weight") for source in values["dataset_mixture"]["datasets"]]
        assert values["dataset_mixture"] == published["dataset_mixture"]
        changed = {name: value for name, value in values.items() if published[name] != value}
        changes.append(changed | ({"weights": own} if own != weights else {}))
    assert changes == [{"learning_rate": 1e-7}, {"beta": 0.1}, {"weights": [0.05, 0.025]}]
    assert weights == [0.5, 0.25]
