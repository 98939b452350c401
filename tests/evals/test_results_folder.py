"""A folder of results for every model, and nobody's results replaced by another's."""

import json
import shutil

import pytest
from helpers import preference, whole_results

from apo_soup.errors import UserError
from apo_soup.evals.program import EvalRequest, run_suite
from apo_soup.evals.results_folder import results_folders
from apo_soup.runs.own_names import plain_name


def test_names_that_look_alike_get_folders_of_their_own(tmp_path):
    names = ["apo-1", "apo/1", "APO-1", "soup", "mix/soup", "mix-soup", "..", ".", "a b", "a*b", "x" * 300, "x" * 299]
    folders = results_folders(tmp_path, names)
    assert folders["apo/1"] == tmp_path / "apo-1"
    assert folders["mix/soup"] == tmp_path / "mix-soup"
    assert folders["soup"] == tmp_path / "soup"
    places = [str(folder).casefold() for folder in folders.values()]
    assert len(set(places)) == len(names), "on a file system that takes a for A too"
    assert {folder.parent for folder in folders.values()} == {tmp_path}
    for folder in folders.values():
        folder.mkdir()
    assert plain_name("<script>") == "-script-"


def test_results_of_another_model_are_left_where_they_are(tmp_path):
    (tmp_path / "apo-1").mkdir()
    (tmp_path / "apo-1" / "results.json").write_text(json.dumps(whole_results(name="apo-1")))
    assert results_folders(tmp_path, ["apo-1"])["apo-1"] == tmp_path / "apo-1"
    own = results_folders(tmp_path, ["apo/1"])["apo/1"]
    assert own.name.startswith("apo-1.")
    own.mkdir()
    assert results_folders(tmp_path, ["apo/1", "apo-1"]) == {"apo/1": own, "apo-1": tmp_path / "apo-1"}
    (tmp_path / "apo-1" / "results.json").write_text("{}")
    with pytest.raises(
        UserError, match=r"apo-1/results.json: expected name, got nothing; remove .*apo-1 and run the evaluation"
    ):
        results_folders(tmp_path, ["apo-1"])


@pytest.fixture
def models(tiny_model, tmp_path):
    """Two runs with a model of one name, two names that look alike, and a soup."""
    places = ("x/run/sft", "y/run/sft", "apo/1", "apo-1", "soup")
    for place in places:
        shutil.copytree(tiny_model, tmp_path / place)
    return {place: tmp_path / place for place in places}


def test_every_model_has_its_results(models, write_rows, write_recipe, tmp_path, capsys):
    """Case M7: one overwrote the other, in silence."""
    rows = str(write_rows("p.jsonl", [preference("Q", "a", "b")] * 2))
    listed = {"apo": str(tmp_path / "apo/*"), "apo-1": str(models["apo-1"]), "soup": str(models["soup"])}
    values = {
        "output_dir": str(tmp_path / "evals"), "models": listed,
        "tasks": [{"name": "p", "kind": "preference", "data": rows}],
    }  # fmt: skip
    path = write_recipe("eval.yaml", values)
    mix = f"soup:{models['soup']}=0.5,{models['apo-1']}=0.5"
    requests = (
        EvalRequest(), EvalRequest(model=str(models["x/run/sft"])), EvalRequest(model=str(models["y/run/sft"])),
        EvalRequest(mix=(mix,)),
    )  # fmt: skip
    for request in requests:
        assert run_suite(path, request, []) == 0
    found = {f.parent.name: json.loads(f.read_text())["name"] for f in (tmp_path / "evals").glob("*/results.json")}
    assert len(found) == 6
    assert found["apo-1"] == "apo/1"
    assert found["soup"] == "soup"
    assert found["mix-soup"] == "mix/soup"
    assert sorted(found.values())[:3] == ["apo-1", "apo/1", "mix/soup"]
    assert len({name for name in found.values() if name.startswith("run-sft@")}) == 2
    capsys.readouterr()
    for request in requests:
        assert run_suite(path, request, []) == 0
    assert "running" not in capsys.readouterr().out
    for request, overrides, told in (
        (
            EvalRequest(),
            ["--models.again", str(models["soup"])],
            "got .*soup for soup and again; leave one of them out",
        ),
        (EvalRequest(mix=(mix, mix)), [], "--mix: expected a name of its own for each, got soup twice"),
    ):
        with pytest.raises(UserError, match=told):
            run_suite(path, request, overrides)


def test_models_with_other_tokens_are_not_averaged(models, write_rows, write_recipe, tmp_path):
    file = models["apo-1"] / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    vocabulary = tokenizer["model"]["vocab"]
    one, two = list(vocabulary)[-2:]
    vocabulary[one], vocabulary[two] = vocabulary[two], vocabulary[one]
    file.write_text(json.dumps(tokenizer))
    rows = str(write_rows("p.jsonl", [preference("Q", "a", "b")] * 2))
    values = {"output_dir": str(tmp_path / "evals"), "tasks": [{"name": "p", "kind": "preference", "data": rows}]}
    mix = f"half:{models['soup']}=0.5,{models['apo-1']}=0.5"
    with pytest.raises(UserError, match=r"--mix: expected models with the tokens of .*soup, got another tokenizer in"):
        run_suite(write_recipe("eval.yaml", values), EvalRequest(mix=(mix,)), [])
