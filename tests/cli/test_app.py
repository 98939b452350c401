"""The console script: what it says of a command line, and where it finds a recipe."""

import json
import re
import shutil
import subprocess
import sys
from importlib.metadata import version

import pytest
from helpers import ENVIRONMENT, ROOT, python

from apo_soup.cli.steps import STEPS
from apo_soup.errors import UserError
from apo_soup.resources import launch_file, recipe_folder, shipped_recipes

COMMANDS = ("new", "check", "why", "preview", "prepare", "run", "sweep", "eval", "compare", "report", "chat", "push")


def test_both_names_of_the_program_list_the_commands():
    script = subprocess.run([f"{sys.prefix}/bin/apo-soup", "-h"], capture_output=True, text=True, check=True).stdout
    module = python("-m", "apo_soup", "--help").stdout
    for command in COMMANDS:
        assert f"│ {command} " in script
        assert f"│ {command} " in module


def test_the_program_tells_its_version():
    told = python("-m", "apo_soup", "--version").stdout.splitlines()
    assert told[0] == f"apo-soup {version('apo-soup')}"
    assert f"trl {version('trl')}" in told


def test_help_and_mistakes_do_without_torch(tmp_path):
    """A command that imports torch here fails; torch takes seconds to import. Where a run is there it may be needed."""
    code = """
import sys
from apo_soup.cli.app import main
sys.modules["torch"] = None
for code, *words in (0, "--help"), (0, "check", "tiny"), (2, "run", "sft", "nowhere"), (2, "eval", "--config", "x"):
    sys.argv[1:] = words
    try:
        main()
    except SystemExit as left:
        assert left.code == code, words
"""
    result = python("-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("apo-soup pr", ["preview", "prepare"]), ("apo-soup plan --me", ["--measure"]), ("apo-soup nosuch", [])],
)
def test_bash_completes_commands_and_options(typed, offered):
    """As the line that `apo-soup --install-completion` writes has bash ask."""
    place = str(len(typed.split()) - 1)
    asked = {"_APO_SOUP_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": place}
    script = [f"{sys.prefix}/bin/apo-soup"]
    result = subprocess.run(script, capture_output=True, text=True, check=True, env=ENVIRONMENT | asked)
    assert result.stdout.split() == offered
    assert result.stderr == ""


def test_a_check_that_needs_torch_has_it(tmp_path):
    """A merge that mergekit reads, of models that are there: in a process of its own, as people start it."""
    model = ROOT / "recipes" / "tiny" / "base"
    for merge in (
        f"merge_method: ties\n  base_model: {model}\n  models: [{{model: {tmp_path}/m, parameters: {{weight: 1}}}}]",
        f"merge_method: passthrough\n  slices: [{{sources: [{{model: {model}, layer_range: [0, 2]}}]}}]",
    ):
        (tmp_path / "merge.yaml").write_text(f"output_dir: runs/x\nmerge:\n  dtype: float32\n  {merge}\n")
        shutil.copytree(model, tmp_path / "m", dirs_exist_ok=True)
        result = python("-m", "apo_soup", "check", tmp_path)
        assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["new", "x", "--lora", "--qlora"], "--lora: expected one of --lora and --qlora, got both"),
        (["new", "x", "--from", ""], "--from: expected a configuration file, got no name"),
        (
            ["new", "x", "--from", "a.yml", "--size", "gpu"],
            "expected it alone, since the file names model and rows, got",
        ),
        (["new", "x", "--qlora"], "--model: expected a model's folder or its id on the Hub, got none"),
        (["sweep", "tiny", "--launch", "gpu.yaml"], "--launch gpu.yaml: expected an accelerate configuration"),
        (
            ["prepare", "--config", ROOT / "recipes/tiny/eval.yaml"],
            "expected a mid, sft, apo, pairs or traces file, got one of kind eval",
        ),
    ],
)
def test_a_file_of_the_wrong_kind_is_one_sentence(apo_soup, words, sentence):
    result = apo_soup(*words)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_recipe_is_a_folder_or_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert recipe_folder("tiny") == shipped_recipes() / "tiny" == ROOT / "recipes" / "tiny"
    assert launch_file("fsdp2.yaml") == ROOT / "recipes" / "accelerate" / "fsdp2.yaml"
    (tmp_path / "tiny").mkdir()
    assert recipe_folder("tiny").resolve() == tmp_path / "tiny"
    with pytest.raises(UserError) as raised:
        recipe_folder("tinny")
    assert str(tmp_path / "tinny") in str(raised.value)
    assert str(ROOT / "recipes") in str(raised.value)
    shipped = "smollm2-135m, smollm2-135m-lora, smollm3, smollm3-apo, smollm3-extend, smollm3-qlora, tiny, tiny-extend"
    assert shipped in str(raised.value)
    with pytest.raises(UserError, match="expected a recipe folder"):
        recipe_folder("accelerate")
    with pytest.raises(UserError, match="expected a recipe folder"):
        recipe_folder("../recipes")
    (tmp_path / "tiny" / "sft.yaml").touch()
    with pytest.raises(
        UserError, match=r"tiny/sft\.yaml: expected a recipe folder, got a file; name its folder, tiny$"
    ):
        recipe_folder("tiny/sft.yaml")


def test_check_and_why_answer_for_every_shipped_recipe_from_any_folder(apo_soup):
    for name in ("tiny", "smollm3"):
        result = apo_soup("check", name)
        assert result.returncode == 0, result.stderr
        assert "no error" in result.stdout
    for name, folder, rows in (
        ("smollm2-135m", "gsm8k", {"think", "no_think", "heldout", "pairs", "heldout_pairs", "questions", "eval"}),
        ("smollm2-135m-lora", "data", {"eval", "heldout_chat", "heldout_pairs"}),
    ):
        result = apo_soup("check", name)
        assert result.returncode == 2
        brought = re.findall(rf"expected a data file, got {folder}/(\w+)\.jsonl, which is not there", result.stderr)
        assert set(brought) == rows, "rows that must be brought"
    result = apo_soup("why", "smollm3")
    assert result.stdout.splitlines()[0].startswith("mid: ")
    assert "sft: waits for mid" in result.stdout


def test_a_recipe_folder_may_hold_spaces_and_lie_below_any(tmp_path):
    folder = tmp_path / "my recipes" / "a b"
    folder.mkdir(parents=True)
    for name in ("data", "mid", "recipe", "sft"):
        shutil.copy(ROOT / "recipes" / "tiny" / f"{name}.yaml", folder)
    shutil.copytree(ROOT / "recipes" / "tiny" / "base", folder / "base")
    result = python("-m", "apo_soup", "check", "my recipes/a b", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "my recipes/a b: 3 files checked, no error" in result.stdout
    result = python("-m", "apo_soup", "why", folder, cwd=tmp_path)
    assert result.stdout.splitlines() == [
        "data: stale, because it has not run yet",
        "mid: waits for data",
        "sft: waits for data",
    ]


@pytest.mark.parametrize("stage", STEPS)
def test_a_stage_whose_file_is_not_there_is_told_before_anything_runs(stage, apo_soup, tmp_path):
    result = apo_soup("run", stage, tmp_path)
    assert result.returncode == 2
    assert f"expected a file {STEPS[stage].file} for the {stage} stage, got none" in result.stderr


def test_push_lists_what_it_would_send_of_a_folder_that_is_whole(apo_soup, tmp_path):
    result = apo_soup("push", tmp_path / "runs" / "merged")
    assert result.returncode == 2
    assert str(tmp_path / "runs" / "merged") in result.stderr


def test_a_reader_that_goes_away_and_an_interrupt_end_a_command_cleanly():
    script = f"set -o pipefail; {sys.executable} -m apo_soup check tiny | true"
    piped = subprocess.run(["bash", "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert (piped.returncode, piped.stderr) == (0, "")
    code = """
import apo_soup.plan.check, apo_soup.cli.app, sys
def interrupted(*_, **__): raise KeyboardInterrupt
apo_soup.plan.check.check_recipe = interrupted
sys.argv = ["apo-soup", "check", "tiny"]
apo_soup.cli.app.main()
"""
    result = python("-c", code)
    assert result.returncode == 130
    assert result.stderr == "stopped; run the same command again to go on\n"


def test_a_report_as_json_is_verdicts_and_the_stage_table_alone(apo_soup, tmp_path):
    (tmp_path / "recipe").mkdir()
    tasks = [{"name": "needle", "kind": "recall", "data": "rows.jsonl"}]
    suite = {"output_dir": "run/evals", "models": {"base": "x"}, "tasks": tasks}
    (tmp_path / "recipe" / "eval.yaml").write_text(json.dumps(suite))
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    results = {"name": "base", "model": "x", "model_hash": "a", "suite_hash": "b", "tasks": {}, "samples": [],
               "engine": {"transformers": "5", "device": "cpu", "dtype": "float32"}}  # fmt: skip
    results["metrics"] = {"needle/128": score | {"headline": True, "n": 3, "better": "higher"}}
    (tmp_path / "run" / "evals" / "base").mkdir(parents=True)
    (tmp_path / "run" / "evals" / "base" / "results.json").write_text(json.dumps(results))
    result = apo_soup("report", "recipe", "--json")
    told = json.loads(result.stdout)
    assert told["table"] == {"base": {"needle/128": score}}, result.stderr
    assert told["claims"] == [], "base alone gained nothing"
    (tmp_path / "recipe" / "recipe.yaml").write_text("name: x\nclaims: smollm3\n")
    asked = json.loads(apo_soup("report", "recipe", "--json").stdout)["claims"]
    assert len(asked) == 8
    assert not any(claim["seen"] or claim["value"] is not None for claim in asked), "base alone shows nothing"
    assert (tmp_path / "run" / "report.html").is_file()
