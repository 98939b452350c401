"""What is said of another stage's folder that a stage builds on."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from apo_soup.config.load import load
from apo_soup.runs.entry import report_state
from apo_soup.runs.model_files import file_record
from apo_soup.runs.stage import Stage
from apo_soup.runs.upstream import told_of_upstream

TRIED = (
    "mid was made with --max_steps 1 on the command line, beside its file; what is there is built on, or make it again"
)


def tried_out(folder: Path, *arguments: str) -> Path:
    """Make a folder of a model or of rows one that a stage made with arguments."""
    files = {file.name: file_record(file) for file in folder.iterdir() if file.name != "manifest.json"}
    made = {"stage": folder.name, "fingerprint": "", "config": {}, "inputs": {}, "files": files}
    (folder / "manifest.json").write_text(json.dumps(made | {"arguments": list(arguments)}))
    return folder


def told(*paths: Path) -> list[str]:
    return list(told_of_upstream([("f.yaml:1: key", path) for path in paths]))


def test_a_changed_folder_and_one_made_with_arguments_are_told_and_others_are_not(tmp_path):
    assert told(tmp_path / "none", Path("some/model")) == []
    folder = tmp_path / "mid"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert told(folder) == [], "a model that no stage made"
    (folder / "manifest.json").write_text('{"version": 3}')
    assert told(folder) == [], "a manifest of another program"
    tried_out(folder)
    assert told(folder) == []
    tried_out(folder, "--max_steps", "1")
    assert told(folder) == [f"f.yaml:1: key: {TRIED}"]
    assert told(folder / "config.json", folder) == [f"f.yaml:1: key: {TRIED}"], "rows of it, each folder once"
    (folder / "config.json").write_text('{"a": 1}')
    changed, second = told(folder)
    assert changed.startswith(f"f.yaml:1: key: {folder} is not as the stage mid made it (config.json ")
    assert second == f"f.yaml:1: key: {TRIED}"


def test_what_a_stage_reads_is_told_of_when_it_is_due_and_not_when_its_state_is_asked(tmp_path, capsys, write_recipe):
    folder = tmp_path / "mid"
    folder.mkdir()
    (folder / "rows.jsonl").write_text("{}")
    tried_out(folder, "--max_steps", "1")
    recipe = load(write_recipe("data.yaml", {"output_dir": str(tmp_path / "data"), "counts": {"sft_talk": 3}}), "data")
    stage = Stage("data", tmp_path / "data", {}, {}, reads=[("f.yaml:1: key", folder / "rows.jsonl")])
    report_state(recipe, [stage], only_state="sentence")
    assert TRIED not in capsys.readouterr().out
    report_state(recipe, [stage, stage], only_state="")
    assert capsys.readouterr().out.count(f"warning: f.yaml:1: key: {TRIED}\n") == 1


@pytest.fixture
def tried_model(tiny_model, tmp_path):
    """A model folder that was tried out, and rows of another."""
    (tmp_path / "data").mkdir()
    row = {"prompt": "1 + 1", "chosen": "2", "rejected": "3", "answer": "2"}
    (tmp_path / "data" / "rows.jsonl").write_text(json.dumps(row) + "\n")
    tried_out(tmp_path / "data", "--seed", "3")
    shutil.copytree(tiny_model, tmp_path / "mid")
    return tried_out(tmp_path / "mid", "--max_steps", "1")


@pytest.mark.parametrize("kind", ["sft", "apo", "pairs", "traces", "eval", "merge", "sweep"])
def test_every_kind_of_stage_names_what_it_reads(tried_model, write_recipe, tmp_path, kind):
    from apo.pairs.stage import asking_stage
    from apo_soup.evals.models_to_evaluate import models_to_evaluate
    from apo_soup.evals.program import evaluation_stages
    from apo_soup.training.entry import training_stage
    from merge.plan import merge_plan
    from merge.sweep.walk import sweep_plan

    rows, model = str(tmp_path / "data" / "rows.jsonl"), str(tried_model)
    training = {"model_name_or_path": model, "dataset_mixture": {"datasets": [{"id": rows}]}}
    asking = {"prompts": rows, "mode": "no_think", "strong": {"model": model}, "max_new_tokens": 8}
    task = {"name": "p", "kind": "preference", "data": rows}
    suite = {"output_dir": str(tmp_path / "evals"), "models": {"mid": model}, "tasks": [task]}
    pair = [{"model": name, "parameters": {"weight": 0.5}} for name in ("mid", str(tmp_path / "other"))]
    merge = {"merge": {"merge_method": "linear", "dtype": "float32", "models": pair}}
    merge["sweep"] = {"weights": [0, 1], "models": ["mid", str(tmp_path / "other")]}
    values = {"sft": training, "apo": training, "pairs": asking | {"weak": {"model": model}}, "traces": asking,
              "eval": suite, "merge": merge, "sweep": merge}[kind]  # fmt: skip
    shutil.copytree(tried_model, tmp_path / "other")
    weights = load_file(tmp_path / "other" / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, tmp_path / "other" / "model.safetensors")
    write_recipe("eval.yaml", suite)
    file = "merge" if kind == "sweep" else kind
    output = str(tmp_path if file == "merge" else tmp_path / f"{kind}-made")
    recipe = load(write_recipe(f"{file}.yaml", {"output_dir": output} | values), file)
    made = {
        "sft": training_stage, "apo": training_stage, "pairs": asking_stage, "traces": asking_stage,
        "eval": lambda r: next(iter(evaluation_stages(r, models_to_evaluate(r, None, [], [])).values()))[0],
        "merge": lambda r: merge_plan(r, "merged").stage, "sweep": lambda r: sweep_plan(r).stage,
    }  # fmt: skip
    lines = list(told_of_upstream(made[kind](recipe).reads))
    assert any(line.endswith(TRIED) for line in lines), lines
    if file != "merge":  # whose suite tells of its rows itself
        assert any("data was made with --seed 3 on the command line" in line for line in lines), lines
