"""A walk over training keys, with its trainings and evaluations in this process, which saves the seconds of imports."""

import json
import re
from dataclasses import dataclass, field, replace

import pytest
from helpers import TRAINING, chat, preference

from apo_soup.cli.settings_walk import run_walk, settings_walk
from apo_soup.cli.walked_point import PointTraining
from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.runs.walked import is_in_point, make_point_folder, point_folder, trained_model
from apo_soup.sweep.scores import PointFailed, item_gains


def read(file):
    return json.loads(file.read_text())


# The model of the tests prefers the others.
PAIRS = [preference(f"What is {a} + {b}?", f"{a + b} bad", f"{a + b} good") for a in range(6) for b in range(6)]


@dataclass(frozen=True)
class InThisProcess(PointTraining):
    """Does what the stages' programs do, and keeps what was asked of it."""

    asked: list = field(default_factory=list)

    def train(self, point, training):
        from apo.train import train_member
        from apo_soup.config.members import member_recipes
        from apo_soup.training.entry import training_stage

        folder = point_folder(self.file, point)
        make_point_folder(folder, point, training)
        *words, flag, number = self.words(point, training)
        assert flag == "--member"
        (member,) = [
            m
            for m in member_recipes(load(self.file.path.with_name("apo.yaml"), "apo", words))
            if m.member == int(number)
        ]
        assert member.deciding_values() == training.deciding_values(), "what was checked is what is trained"
        stage = training_stage(member)
        if stage.stale():
            self.asked.append(f"train {point.told} {number}")
            try:
                train_member(member, stage, [])
            except UserError as error:  # which ends the program that this stands for with code 2
                raise PointFailed(f"{self.file.path}: {error}") from error
        return trained_model(folder, training)

    def measure(self, folder, name, model, tasks):
        from apo_soup.evals.program import EvalRequest, run_suite

        self.asked.append(f"measure {folder.name} {name} {'+'.join(tasks)}")
        words = [f"--output_dir={folder / 'evals' / '+'.join(tasks)}", f"--models={json.dumps({name: model})}"]
        assert run_suite(self.suite, EvalRequest(task=tuple(tasks)), words) == 0
        results = map(read, (folder / "evals" / "+".join(tasks)).glob("[!.]*/results.json"))
        return next(one["metrics"] for one in results if one["name"] == name)


@pytest.fixture
def walk(write_rows, write_recipe, tiny_model, tmp_path, monkeypatch):
    """Makes a walk over an apo file of two members; a training is 12 steps on pairs that are learned in as many."""
    monkeypatch.chdir(tmp_path)
    rows = write_rows("pairs.jsonl", PAIRS)
    texts = write_rows("texts.jsonl", [chat(f"Say {n}.", f"a b c {n}", False) for n in range(8)])
    values = TRAINING | {
        "model_name_or_path": str(tiny_model), "output_dir": "runs/r/apo",
        "dataset_mixture": {"datasets": [{"id": str(rows)}], "seed": 0}, "loss_type": "apo_zero",
        "precompute_ref_log_probs": True, "max_steps": 12, "save_strategy": "no", "lr_scheduler_type": "constant",
        "members": [{"seed": 1, "checkpoints": [6]}, {"seed": 2}],
    }  # fmt: skip
    write_recipe("apo.yaml", values)
    tasks = [{"name": n, "kind": k, "data": str(d)} for n, k, d in
             (("pairs", "preference", rows), ("texts", "loss", texts))]  # fmt: skip
    write_recipe("eval.yaml", {"output_dir": "runs/r/evals", "tasks": tasks})

    def make(asked, **keys):
        usual = {"stage": "apo", "output_dir": "runs/r/settings", "metric": "pairs", "guardrails": {"texts": 0}}
        file = load(write_recipe("sweep.yaml", usual | keys), "sweep")
        made = settings_walk(file, None)
        return replace(made, training=InThisProcess(file, made.training.suite, None, asked))

    return make


def found(tmp_path):
    return read(tmp_path / "runs" / "r" / "settings" / "settings.json")


def test_a_walk_trains_measures_and_chooses(walk, tmp_path, capsys):
    """A rate that learns the pairs beats one that learns nothing; prepared rows and reference values are made once."""
    asked = []
    run_walk(walk(asked, over={"learning_rate": [1e-9, 1e-3]}, guardrails={}))
    told = found(tmp_path)
    assert [p["keys"] for p in told["points"]] == [{"learning_rate": 1e-9}, {"learning_rate": 1e-3}]
    assert told["chosen"] == {"label": "learning_rate=0.001", "alike": []}
    still, learned = told["points"]
    assert still["scores"]["pairs"] == told["reference"]["pairs"] < learned["scores"]["pairs"]
    assert learned["differences"]["pairs"]["low"] > 0
    assert still["differences"]["pairs"]["value"] == 0
    shown = capsys.readouterr().out
    assert "settings: learning_rate=0.001 has the best pairs of the points whose guardrails hold: +" in shown
    assert f"in {tmp_path / 'apo.yaml'}:\n    learning_rate: 0.001" in shown
    run = tmp_path / "runs" / "r"
    assert 'class="whisker s0"' in (run / "settings" / "settings.svg").read_text()
    assert len(list((run / "prepared").glob("apo-*"))) == 1
    assert len(list((run / "reference").glob("*.safetensors"))) == 1
    points = sorted(folder.name for folder in (run / "settings_points").iterdir())
    assert points == ["against", "learning_rate=0.001", "learning_rate=1e-09"]
    assert [f.name for f in (run / "settings_points" / points[1] / "apo").glob("[!.]*")] == ["1"], "no kept step"
    assert is_in_point(run / "settings_points" / points[1] / "apo" / "1")

    trained = [line for line in asked if line.startswith("train")]
    assert trained == ["train learning_rate=1e-09 1", "train learning_rate=0.001 1"]
    assert walk([], over={"learning_rate": [1e-9, 1e-3]}, guardrails={}).stage.stale() is None
    fewer = walk(again := [], over={"learning_rate": [1e-3]}, guardrails={})
    assert "over" in fewer.stage.stale()
    run_walk(fewer)
    assert not [line for line in again if line.startswith("train")]
    assert (run / "settings_points" / "learning_rate=1e-09" / "apo" / "1" / "model.safetensors").is_file()


def test_what_is_left_of_a_point_is_left_out_where_a_guardrail_falls(walk, tmp_path, capsys):
    """A rate that wrecks the model: its loss of texts, of which lower is better, rises in the first member."""
    asked = []
    run_walk(walk(asked, over={"learning_rate": [1.0, 1e-9]}, members="all"))
    assert asked == [
        f"measure against {asked[0].split()[2]} pairs+texts",
        "train learning_rate=1.0 1", "measure learning_rate=1.0 apo/1 texts",
        "train learning_rate=1e-09 1", "measure learning_rate=1e-09 apo/1 texts",
        "train learning_rate=1e-09 2", "measure learning_rate=1e-09 apo/2 texts",
        "measure learning_rate=1e-09 apo/1 pairs", "measure learning_rate=1e-09 apo/2 pairs",
    ]  # fmt: skip
    told = found(tmp_path)
    wrecked, still = told["points"]
    assert (wrecked["fallen"], still["fallen"]) == (["texts"], [])
    assert wrecked["scores"].keys() == {"texts"}
    assert wrecked["differences"]["texts"]["high"] < 0 < wrecked["scores"]["texts"]
    assert told["chosen"]["label"] == "learning_rate=1e-09"
    shown = capsys.readouterr().out
    assert "learning_rate=1.0: texts fell beyond noise; 1 of its members, pairs left out" in shown
    assert "not measured" in shown
    assert ", which is within noise" in shown


def test_a_point_that_fails_is_told_and_ends_no_walk(walk, tmp_path, capsys):
    """A rate that makes weights infinite: the same command tries it again, and none once it is left out."""
    rates = [1e38, 1e-9, 1e-3]
    made = walk([], over={"learning_rate": rates}, guardrails={})
    with pytest.raises(UserError, match=r"expected 3 points .*, got 1 that failed \(learning_rate=1e\+38\); mend"):
        run_walk(made)
    told = found(tmp_path)
    assert [bool(point["failed"]) for point in told["points"]] == [True, False, False]
    assert "expected finite" in told["points"][0]["failed"]
    assert told["points"][0]["scores"] == {}
    assert told["chosen"]["label"] == "learning_rate=0.001"
    table = (tmp_path / "runs" / "r" / "settings" / "settings.txt").read_text()
    assert re.search(r"^1e\+38 +not measured +failed$", table, re.MULTILINE)
    assert "settings: learning_rate=1e+38 failed: " in table
    assert "1e+38 (failed)" in (tmp_path / "runs" / "r" / "settings" / "settings.svg").read_text()

    same = walk(again := [], over={"learning_rate": rates}, guardrails={})
    assert same.stage.stale() is None
    assert same.failed_points() == {"settings": "learning_rate=1e+38 failed"}
    with pytest.raises(UserError, match="got 1 that failed"):
        run_walk(same)
    assert [line for line in again if line.startswith("train")] == ["train learning_rate=1e+38 1"]
    fewer = walk(again := [], over={"learning_rate": rates[1:]}, guardrails={})
    assert fewer.failed_points() == {}, "it is stale for its points"
    run_walk(fewer)
    assert walk([], over={"learning_rate": rates[1:]}, guardrails={}).failed_points() == {}
    assert not [line for line in again if line.startswith("train")]
    capsys.readouterr()
    with pytest.raises(UserError, match="expected 1 points"):
        run_walk(walk([], over={"learning_rate": rates[:1]}, guardrails={}))
    assert "settings: every point failed or lets a guardrail fall; " in capsys.readouterr().out


def test_the_scores_of_several_members_are_their_mean(walk, tmp_path):
    made = walk([], over={"learning_rate": [1e-3]}, members=2, guardrails={}, tasks=["pairs"])
    run_walk(made)
    evals = tmp_path / "runs" / "r" / "settings_points" / "learning_rate=0.001" / "evals"
    several = [read(file)["metrics"] for file in sorted(evals.glob("pairs/*/results.json"))]
    means = [sum(items) / 2 for items in zip(*(item_gains(m, "pairs", "x") for m in several), strict=True)]
    (point,) = found(tmp_path)["points"]
    assert point["scores"]["pairs"] == pytest.approx(sum(means) / len(means))


def test_a_score_that_is_not_there_is_told_before_anything_is_trained(walk):
    with pytest.raises(UserError, match=r"sweep\.yaml:\d+: metric: expected one of pairs, .*, got pears; name one"):
        run_walk(walk(asked := [], over={"beta": [0.1, 0.2]}, metric="pears"))
    assert [line.split()[0] for line in asked] == ["measure"]
    with pytest.raises(UserError, match=r"tasks: expected tasks of .*eval\.yaml \(pairs, texts\), got txets"):
        walk([], over={"beta": [0.1]}, tasks=["pairs", "txets"])


def test_points_that_begin_elsewhere_are_compared_with_what_the_file_names(walk, tmp_path, tiny_model):
    """Without `against` gains would be those on the model of the training file, from which they do not begin."""
    told = r"sweep\.yaml: expected against: FOLDER where points begin with several models"
    with pytest.raises(UserError, match=told):
        walk([], over={"model_name_or_path": [str(tiny_model), str(tmp_path / "other")]})
    apo = tmp_path / "apo.yaml"
    apo.write_text(apo.read_text().rstrip() + "\nmodel_revision: it-SFT\n")
    with pytest.raises(UserError, match=told):
        walk([], over={"beta": [0.2, 0.3]})
    assert walk([], over={"beta": [0.2, 0.3]}, against=str(tiny_model)).against == str(tiny_model)


def test_a_changed_training_file_makes_the_walk_stale(walk, tmp_path):
    before = walk([], over={"beta": [0.2, 0.3]}).stage
    apo = tmp_path / "apo.yaml"
    apo.write_text(apo.read_text().replace("max_steps: 12", "max_steps: 13"))
    after = walk([], over={"beta": [0.2, 0.3]}).stage
    changed = {label for label in before.inputs if before.inputs[label] != after.inputs[label]}
    assert changed == {"trainings by apo.yaml"}
