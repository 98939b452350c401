"""The walk over the merge weight."""

import json
import shutil
from dataclasses import replace

import pytest
from merge_helpers import refused
from programs import run_ok
from safetensors.torch import load_file, save_file

from apo_soup.errors import UserError


def metrics_of(**columns):
    return {n: {"value": sum(v) / len(v), "items": v, "better": "higher"} for n, v in columns.items()}


def test_a_sweep_scores_the_points_that_merge_would_write(run, merge_file, suite, tmp_path):
    """The point at 0.5 has the scores of the merged checkpoint, item by item; a second walk asks only what is new."""
    path = merge_file(weights=(0.5, 0.5), sweep={"weights": [0, 0.5, 1], "tasks": ["taste"], "bootstrap": 200})
    run_ok("-m", "merge", "--config", path)
    shown = run_ok("-m", "merge.sweep", "--config", path)
    found = json.loads((run / "sweep" / "sweep.json").read_text())
    assert [p["weight"] for p in found["points"]] == [0.0, 0.5, 1.0]
    assert found["metric"] == "taste"
    run_ok("-m", "apo_soup", "eval", "--config", suite, "--model", run / "merged", "--output_dir", tmp_path / "evals")
    (written,) = (tmp_path / "evals").glob("*/results.json")
    point = json.loads((run / "sweep_points" / "taste" / "mix-0.5" / "results.json").read_text())["metrics"]
    assert point["taste"]["items"] == json.loads(written.read_text())["metrics"]["taste"]["items"]
    assert "other" not in point
    assert not list(run.glob("sweep*/**/*.safetensors")), "no checkpoint is written"
    best = max(found["points"], key=lambda p: (p["scores"]["taste"], p["weight"]))
    assert found["chosen"]["weight"] == best["weight"]
    assert f"sweep: soup {best['weight']:g} has the best taste" in shown
    assert f"- {{model: mid, parameters: {{weight: {1 - best['weight']:g}}}}}" in shown
    assert 'class="line s0"' in (run / "sweep" / "sweep.svg").read_text()
    again = run_ok("-m", "merge.sweep", "--config", path)
    assert "sweep: up to date" in again
    finer = run_ok("-m", "merge.sweep", "--config", path, "--sweep.weights", "[0, 0.25, 0.5, 1]")
    assert finer.count("evals/mix/") == 6, "three are up to date, one runs, tells of its model and its scores"
    assert "evals/mix/0.25: running" in finer
    other = run_ok("-m", "merge.sweep", "--config", path, "--sweep.weights", "[1]", "--sweep.tasks", "[other]")
    assert "soup 1 has the best other" in other
    assert (run / "sweep_points" / "other" / "mix-1.0").is_dir(), "beside those of the other task"


def test_no_walk_goes_between_copies_of_one_model(run, merge_file, suite):
    from apo_soup.config.load import load
    from merge.sweep.walk import sweep_plan

    shutil.copytree(run / "mid", run / "again")
    walk = {"models": [str(run / "mid"), str(run / "again")], "eval": str(suite)}
    with pytest.raises(UserError, match=r"sweep\.models: expected two models, got .*mid and .*again, copies of one"):
        sweep_plan(load(merge_file(sweep=walk), "merge"))


def test_the_best_point_keeps_its_guardrails_and_its_equals_are_named():
    """Weight 0 scores best and loses recall beyond noise; 0.9 and 0.8 score alike, and 0.9 is nearer to the soup."""
    from apo_soup.sweep.choose import PairedTest, Yardstick

    good, bad = [1] * 95 + [0] * 5, [1] * 50 + [0] * 50
    found = {
        0.0: metrics_of(score=[1] * 100, recall=bad),
        0.8: metrics_of(score=[1] * 90 + [0] * 10, recall=good),
        0.9: metrics_of(score=[1] * 90 + [0] * 10, recall=good),
        1.0: metrics_of(score=bad, recall=good),
    }
    guarded = Yardstick("score", {"recall": 0.02}, found[1.0], PairedTest(500, 0, "x.metric"))
    points = [guarded.point(w, m) for w, m in found.items()]
    assert [p.fallen for p in points] == [("recall",), (), (), ()]
    chosen = guarded.best(points, found)
    assert (chosen.label, chosen.alike) == (0.9, (0.8,))
    assert points[0].differences["recall"].value == pytest.approx(-0.45)
    with pytest.raises(UserError, match="expected one of score, recall, which keep single items, got speed"):
        replace(guarded, metric="speed").point(0.0, found[0.0])


def test_a_loss_is_best_where_it_is_lowest(tmp_path):
    """As metric and as guardrail: 0.5 has the lowest loss, 0 the highest."""
    from apo_soup.sweep.choose import PairedTest, Yardstick
    from apo_soup.sweep.scores import item_gains

    values = {0.0: 7.2, 0.5: 6.9, 1.0: 7.0}
    found = {
        w: {"nll": {"value": v, "items": [v + 0.001 * n for n in range(50)], "better": "lower"}}
        for w, v in values.items()
    }
    guarded = Yardstick("nll", {"nll": 0.0}, found[1.0], PairedTest(200, 0, "x.metric"))
    points = [guarded.point(w, m) for w, m in found.items()]
    assert [p.fallen for p in points] == [("nll",), (), ()]
    assert points[1].differences["nll"].value == pytest.approx(0.1)
    assert guarded.best(points, found).label == 0.5
    from dataclasses import asdict

    from apo_soup.report.sweep import stored_sweep, swept_line

    (tmp_path / "sweep").mkdir()
    told = {"models": ["soup", "mid"], "metric": "nll", "guardrails": {}, "better": {"nll": "lower"}, "told": "-",
            "points": [asdict(p) | {"weight": p.label} for p in points]}  # fmt: skip
    (tmp_path / "sweep" / "sweep.json").write_text(json.dumps(told))
    line = swept_line(stored_sweep(tmp_path), "nll", "nll")
    middles = [(weight, pytest.approx((low + high) / 2, abs=0.01)) for weight, low, high in line.bands]
    assert line.points[:2] == middles[:2], "the bar of a loss stands where its line does"
    with pytest.raises(UserError, match=r"\.metric: expected a score that is better when higher or lower, got length"):
        item_gains({"length": {"value": 1.0, "items": [1.0], "better": None}}, "length", "x.metric")


@pytest.mark.parametrize(
    ("sweep", "told"),
    [
        ({"weights": [0, float("nan"), 1]}, r"sweep\.weights\.1: expected .*, got nan"),
        ({"weights": [-0.1, 1]}, r"sweep\.weights\.0: expected a number between 0 and 1, got -0\.1"),
        ({"weights": [0, 0.5]}, r"sweep\.weights: expected 1, the first model alone"),
        ({"guardrails": {"taste": -1}}, r"sweep\.guardrails\.taste: expected a number of 0 or more, got -1"),
        ({"models": ["mid", "mid"]}, r"sweep\.models: expected two folders"),
    ],
)
def test_a_walk_that_makes_no_sense_is_told(run, merge_file, suite, sweep, told):
    from apo_soup.config.load import load
    from merge.sweep.walk import sweep_plan

    shutil.copytree(run / "mid", run / "soup")
    with pytest.raises(UserError, match=told):
        sweep_plan(load(merge_file(sweep=sweep), "merge"))


def test_a_sweep_is_stale_for_what_of_its_suite_has_changed(run, merge_file, suite, tmp_path):
    from apo_soup.config.load import load
    from apo_soup.runs.manifest import differences
    from merge.sweep.walk import sweep_plan

    def planned():
        return sweep_plan(load(merge_file(sweep={"weights": [0, 1]}), "merge")).stage

    shutil.copytree(run / "mid", run / "soup")
    weights = load_file(run / "soup" / "model.safetensors")
    save_file({name: tensor + 1 for name, tensor in weights.items()}, run / "soup" / "model.safetensors")
    template = tmp_path / "own.jinja"
    template.write_text("{{ messages }}")
    suite.write_text(suite.read_text().replace("apo-soup", str(template)))
    first = planned()
    made = {"config": first.config, "inputs": first.inputs}
    suite.write_text(f"# A comment asks nothing.\n{suite.read_text()}\n")
    assert planned().fingerprint == first.fingerprint
    template.write_text("{{ messages }}!")
    suite.write_text(f"{suite.read_text()}seed: 77\n")
    changed = planned()
    assert differences(made, changed.config, changed.inputs) == [
        "template changed",
        "suite.seed was not given and is 77",
    ]


def test_a_mix_that_is_written_wrongly_is_told(suite):
    for mix in ("half", "half:a", "a/b:x=1", "half:x=much"):
        text = refused("-m", "apo_soup", "eval", "--config", suite, "--mix", mix)
        assert "--mix: expected" in text
        assert f"got {mix}" in text
