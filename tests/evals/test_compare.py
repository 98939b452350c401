"""Two evaluations compared item by item, and the exit code for a fall."""

import json

import pytest
from helpers import python, whole_results

from apo_soup.errors import UserError
from apo_soup.evals.compare import compare_results, metric_comparisons
from apo_soup.evals.metrics import mean_metric


def evaluation(hits, rows="a", better="higher"):
    metric = {"value": sum(hits) / len(hits), "low": 0, "high": 1, "n": len(hits), "better": better, "headline": True}
    task = {"kind": "answer", "rows": rows, "seconds": 1, "metrics": ["sums"]}
    return whole_results(tasks={"sums": task}, metrics={"sums": {**metric, "items": hits}})


def test_two_evaluations_are_compared_item_by_item():
    (line,), notes = metric_comparisons(evaluation([0, 0, 1, 1]), evaluation([1, 1, 1, 1]))
    assert (line.gain.value, line.gain.n, notes) == (0.5, 4, [])
    (line,), _ = metric_comparisons(evaluation([3.0, 2.0], better="lower"), evaluation([1.0, 1.0], better="lower"))
    assert line.gain.value == 1.5, "less is better, so falling is a gain"
    lines, notes = metric_comparisons(evaluation([0]), evaluation([1], rows="b"))
    assert (lines, notes) == ([], ["task sums asked other items of the second, so it cannot be compared item by item"])
    with pytest.raises(UserError, match="--metric: expected one that both have item by item, of sums, got other"):
        metric_comparisons(evaluation([0]), evaluation([1]), ["other"])


@pytest.mark.parametrize(
    ("after", "threshold", "code"),
    [
        ([1] * 40, "-0.02", 0),
        ([1] * 20 + [0] * 20, "-0.02", 1),
        ([1] * 39 + [0], "-0.02", 0),
        ([1] * 20 + [0] * 20, "-0.6", 0),
    ],
)
def test_a_threshold_answers_by_exit_code(tmp_path, after, threshold, code):
    for name, hits in (("before", [1] * 40), ("after", after)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.json").write_text(json.dumps(evaluation(hits)))
    result = python("-m", "apo_soup", "compare", tmp_path / "before", tmp_path / "after", "--fail-below", threshold)
    assert result.returncode == code, result.stdout + result.stderr
    assert ("failed: sums fell below" in result.stdout) is bool(code)
    missing = python("-m", "apo_soup", "compare", tmp_path / "before", tmp_path / "nowhere")
    assert missing.returncode == 2
    assert "expected results.json, got nothing" in missing.stderr


def evaluation_folder(folder, **metrics):
    """A results.json with one task, its metrics by name as items."""
    told = {name: mean_metric([float(i) for i in items], headline=True).as_json() for name, items in metrics.items()}
    task = {"kind": "answer", "rows": "r", "seconds": 1.0, "metrics": list(told)}
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps(whole_results(tasks={"t": task}, metrics=told)))
    return folder


def test_a_threshold_fails_for_a_fall_beyond_noise_and_for_what_nobody_compared(tmp_path, capsys):
    good = evaluation_folder(tmp_path / "good", a=[1] * 40, b=[1] * 40)
    noise = evaluation_folder(tmp_path / "noise", a=[0] * 5 + [1] * 35, b=[1] * 40)
    fallen = evaluation_folder(tmp_path / "fallen", a=[0] * 6 + [1] * 34, b=[1] * 40)
    half = evaluation_folder(tmp_path / "half", a=[1] * 40)
    assert compare_results(good, noise, [], -2e-2) == 0, "five of forty, all one way: p = 0.0625"
    assert compare_results(good, fallen, [], -0.02) == 1
    assert compare_results(good, fallen, [], -0.2) == 0
    assert compare_results(good, half, [], -0.02) == 1
    assert "b has no single items in both" in capsys.readouterr().out
    assert compare_results(good, half, [], None) == 0, "without a threshold it is only told"
    assert compare_results(good, half, ["a"], -0.02) == 0, "only a was asked for"
    odd = evaluation_folder(tmp_path / "odd", a=[0.5], b=[1] * 40)
    worse = evaluation_folder(tmp_path / "worse", a=[0.4], b=[1] * 40)
    assert compare_results(odd, worse, [], -0.02) == 1, "one item says nothing"
    for value in ("nan", "0.05", "-inf"):
        with pytest.raises(UserError, match="expected a number of 0 or less"):
            compare_results(good, half, [], float(value))
    (half / "results.json").write_text(json.dumps({"tasks": {"t": {}}, "metrics": {}}))
    with pytest.raises(UserError, match=r"results\.json: expected name, got nothing"):
        compare_results(good, half, [], None)
