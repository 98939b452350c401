"""The order of a recipe's stages: needs first, each once, with the overrides it was made with."""

import json
import os
import re
import subprocess

import pytest
from helpers import ROOT, python

from apo_soup.cli.order import print_states, run_stages
from apo_soup.cli.reads import steps_needed
from apo_soup.cli.shadowed import file_of_module, require_our_module
from apo_soup.cli.steps import STEPS, launch_command, order
from apo_soup.errors import UserError


def test_order_runs_needs_first_and_each_once():
    assert order("eval") == ["data", "extend", "mid", "sft", "pairs", "apo", "soup", "merge", "sweep", "eval"]
    assert order("mid") == ["data", "extend", "mid"]


def test_the_command_is_the_one_the_documentation_shows():
    recipe = ROOT / "recipes" / "tiny"
    words = launch_command(STEPS["sft"], recipe, "recipes/accelerate/cpu.yaml", ["--learning_rate", "1e-4"])
    assert words[:5] == ["accelerate", "launch", "--config_file", "recipes/accelerate/cpu.yaml", "-m"]
    assert words[5:] == ["sft", "--config", str(recipe / "sft.yaml"), "--learning_rate", "1e-4"]
    soup = ["python", "-m", "merge", "--config", str(recipe / "merge.yaml"), "--only", "soup"]
    assert launch_command(STEPS["soup"], recipe, "x", []) == soup


@pytest.fixture
def toy_recipe(tmp_path):
    """A recipe of three rows, in a folder whose name holds spaces."""
    folder = tmp_path / "my recipes" / "a b"
    folder.mkdir(parents=True)
    data = {"output_dir": str(tmp_path / "run" / "data"), "seed": 0, "counts": {"sft_talk": 3}}
    (folder / "data.yaml").write_text(json.dumps(data))
    return folder


def test_pairs_run_only_where_the_apo_file_reads_them():
    """SmolLM3's apo.yaml takes the published splits, so `make apo` does not begin with 270 000 questions."""
    assert "pairs" in steps_needed(ROOT / "recipes" / "tiny", "merge", [])
    assert "pairs" not in steps_needed(ROOT / "recipes" / "smollm3", "merge", [])


def test_a_file_in_the_place_of_a_stage_is_named_before_anything_runs(toy_recipe, tmp_path, monkeypatch):
    (toy_recipe / "merge.yaml").write_text("output_dir: run\nsoup: {members: all}\n")
    for name in ("merge.py", "sft/__init__.py"):
        folder = tmp_path / name.replace("/", "-").removesuffix(".py")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("raise SystemExit('the wrong program runs')\n")
        monkeypatch.chdir(folder)
        stage = name.split(".")[0].split("/")[0]
        with pytest.raises(UserError, match=rf"{name}: expected `python -m {stage}` to run .*/{stage}, got this file"):
            require_our_module(stage)
    require_our_module("merge.sweep")  # the folder of `sft` holds no `merge`
    for words in (("why",), ("run", "soup")):
        result = python("-m", "apo_soup", *words, toy_recipe, cwd=tmp_path / "merge")
        assert result.returncode == 2
        assert "merge.py: expected `python -m merge` to run" in result.stderr
        assert result.stdout == "", "not even the data, which come first"
    assert not (tmp_path / "run").exists()


def test_a_folder_without_init_shadows_nothing(tmp_path, monkeypatch):
    (tmp_path / "merge").mkdir()
    (tmp_path / "merge" / "notes.md").write_text("mine")
    monkeypatch.chdir(tmp_path)
    require_our_module("merge")
    assert file_of_module("merge") == ROOT / "merge" / "__init__.py"
    (tmp_path / "merge" / "__init__.py").touch()
    with pytest.raises(UserError, match=r"merge/__init__\.py: expected `python -m merge` to run"):
        require_our_module("merge")


@pytest.mark.parametrize("stage", STEPS)
def test_every_stage_has_a_target_of_make(stage):
    assert re.search(rf"^{stage}: .venv/ready .*\n\t@\$\(RUN\)$", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_make_alone_lists_the_targets_and_settings():
    text = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in (*STEPS, "setup", "demo", "report", "chat", "push", "check", "why", "clean", "bench", "test", "lint"):
        assert f"make {target} " in text
    assert re.search(r"PYTHON=python3\.1[123] ", text)


@pytest.mark.parametrize(
    ("recipe", "launch"),
    [
        ("recipes/tiny", "recipes/accelerate/cpu.yaml"),
        ("recipes/tiny/", "recipes/accelerate/cpu.yaml"),
        ("my recipes/tiny", ""),
        ("recipes/tiny-2", ""),
    ],
)
def test_make_hands_a_recipe_with_spaces_on_as_one_word(recipe, launch):
    words = ["make", "-n", "-o", ".venv/ready", "mid", "check", f"RECIPE={recipe}"]
    text = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert f'apo_soup run mid "{recipe}" --launch "{launch}" ' in text
    assert f'apo_soup check "{recipe}"' in text


def test_a_mistake_in_a_later_file_is_told_before_an_earlier_stage_runs(toy_recipe, tmp_path, capfd):
    (toy_recipe / "sft.yaml").write_text("output_dir: run/sft\nsede: 1\n")
    (toy_recipe / "mid.yaml").write_text("output_dir: run/mid\n")
    with pytest.raises(UserError) as error:
        run_stages("sft", toy_recipe, None, [])
    unknown = "sede: expected a known key, got an unknown one; the nearest is seed"
    assert f"{toy_recipe / 'sft.yaml'}:2: {unknown}" in str(error.value)
    assert f"{toy_recipe / 'mid.yaml'}: model_name_or_path: expected text, got nothing" in str(error.value)
    assert not (tmp_path / "run").exists()


def test_a_members_mistake_is_told_before_an_earlier_stage_runs(toy_recipe, tmp_path, capfd):
    apo = toy_recipe / "apo.yaml"
    apo.write_text(
        "output_dir: run/apo\nmodel_name_or_path: m\ndataset_mixture: {datasets: [{id: a.jsonl}]}\n"
        "members: [{sede: 1}]\n"
    )
    with pytest.raises(UserError, match=rf"{apo}:4: sede: expected a known key, got an unknown one"):
        run_stages("apo", toy_recipe, None, [])
    assert not (tmp_path / "run").exists()


def test_a_batch_that_the_launch_does_not_divide_is_told_before_an_earlier_stage_runs(
    toy_recipe, tmp_path, monkeypatch, capfd
):
    """Not of a stage whose folder is there: its own program, which knows whether it is trained at all, tells that."""
    monkeypatch.chdir(tmp_path)
    for stage, batch in (("mid", 3), ("sft", 8)):
        (toy_recipe / f"{stage}.yaml").write_text(
            f"output_dir: run/{stage}\nglobal_batch_size: {batch}\nper_device_train_batch_size: {batch}\n"
            "model_name_or_path: m\ndataset_mixture: {datasets: [{id: a.jsonl}]}\n"
        )
    (tmp_path / "launch.yaml").write_text("distributed_type: MULTI_GPU\nnum_processes: 2\n")
    with pytest.raises(UserError) as told:
        run_stages("sft", toy_recipe, str(tmp_path / "launch.yaml"), ["--per_device_train_batch_size", "2"])
    assert str(told.value) == (
        f"{toy_recipe}/mid.yaml:2: global_batch_size: expected a multiple of 6, which is per_device_train_batch_size "
        "3 x 2 processes, got 3; launch another number of processes, or a global batch of 6"
    )
    (tmp_path / "run" / "mid").mkdir(parents=True)
    with pytest.raises(UserError) as told:
        run_stages("sft", toy_recipe, str(tmp_path / "launch.yaml"), [])
    assert str(told.value) == (
        f"{toy_recipe}/sft.yaml:2: global_batch_size: expected a multiple of 16, which is per_device_train_batch_size "
        "8 x 2 processes, got 8; write per_device_train_batch_size 4, or a global batch of 16"
    )
    assert capfd.readouterr().out == ""


def test_a_mistake_in_the_overrides_is_told_before_an_earlier_stage_runs(toy_recipe, tmp_path):
    apo = toy_recipe / "apo.yaml"
    apo.write_text(
        f"output_dir: {tmp_path}/run/apo\nmodel_name_or_path: m\ndataset_mixture: {{datasets: [{{id: a.jsonl}}]}}\n"
    )
    for words, told in (
        (
            ["--lerning_rate", "1"],
            "lerning_rate: expected a known key or option, got an unknown one; the nearest is le",
        ),
        (["--memebr", "1"], "memebr: expected a known key or option, got an unknown one; the nearest is --member"),
        (["--member", "1", "--beta", "-1"], "beta: expected a number above 0, got -1; "),
        (["beta", "1"], "(command line): expected --key value, got 'beta'"),
    ):
        with pytest.raises(UserError) as error:
            run_stages("apo", toy_recipe, None, words)
        assert told in str(error.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("stage", ["mid", "pairs", "apo", "merge", "sweep", "eval"])
def test_a_step_knows_the_options_of_its_program(stage):
    step = STEPS[stage]
    shown = set(re.findall(r"(--[a-z-]+)", python("-m", step.module, *step.command, "--help").stdout))
    mentioned = {"--config", "--state", "--state-json", "--help", "--key", "--dataset"}
    assert shown - mentioned == set(step.flags)


def test_the_states_of_a_folder_without_stage_files_are_a_mistake(tmp_path):
    with pytest.raises(UserError, match=r"expected at least one of data\.yaml, extend\.yaml, mid\.yaml, .*, got none"):
        print_states(tmp_path)


def test_pairs_that_no_stage_reads_hold_nobody_up(toy_recipe, capfd):
    (toy_recipe / "pairs.yaml").write_text(
        "output_dir: run/pairs\nprompts: none.jsonl\nmode: think\nstrong: {model: a}\nweak: {model: b}\n"
    )
    assert print_states(toy_recipe) == 0
    told = capfd.readouterr()
    assert f"pairs: not read by {toy_recipe / 'apo.yaml'}\n" in told.out
    assert "waits for pairs" not in told.out
    assert told.err == ""


def test_why_reads_every_file_where_it_is_asked_to(tmp_path, capfd):
    """A disk that flips a bit leaves size and time of a file as they were."""
    rows = tmp_path / "run" / "data"
    (tmp_path / "data.yaml").write_text(json.dumps({"output_dir": str(rows), "seed": 0, "counts": {"sft_talk": 3}}))
    assert run_stages("data", tmp_path, None, []) == 0
    file = rows / "sft_talk.jsonl"
    stat, content = file.stat(), file.read_bytes()
    file.write_bytes(content[:-3] + b"?" + content[-2:])
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    capfd.readouterr()
    print_states(tmp_path)
    assert capfd.readouterr().out.startswith("data: up to date")
    print_states(tmp_path, by_content=True)
    assert capfd.readouterr().out == "data: stale, because sft_talk.jsonl has changed since it was made\n"
