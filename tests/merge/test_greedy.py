"""The greedy soup."""

import json

import pytest

from apo_soup.errors import UserError


def test_a_greedy_soup_takes_members_while_the_score_does_not_fall(run, merge_file, suite, capsys):
    """Checked against plain averages of the same checkpoints, scored one by one."""
    from apo_soup.config.load import load
    from apo_soup.evals.program import EvalRequest, run_suite
    from merge.greedy import greedy_members
    from merge.members import soup_members

    path = merge_file(soup={"members": "greedy", "metric": "taste", "dtype": "float32"})
    recipe = load(path, "merge")
    assert len(soup_members(recipe, ask=False)) == 3, "not worked out yet"
    kept = soup_members(recipe)
    told = json.loads((run / "greedy" / "greedy.json").read_text())
    folders = {k: run / "apo" / k for k in "123"}
    subsets = ["1", "2", "3", "12", "13", "23", "123"]
    mixes = tuple(f"{s}:" + ",".join(f"{folders[k]}={1 / len(s)!r}" for k in s) for s in subsets)
    assert run_suite(suite, EvalRequest(mix=mixes, task=("taste",)), ["--output_dir", str(run / "check")]) == 0
    results = {s: json.loads((run / "check" / f"mix-{s}" / "results.json").read_text()) for s in subsets}
    value = {s: found["metrics"]["taste"]["value"] for s, found in results.items()}
    assert told["alone"] == pytest.approx({k: value[k] for k in "123"})
    expected, *rest = sorted("123", key=lambda k: -value[k])
    for name in rest:
        tried = expected + name
        if value["".join(sorted(tried))] >= value["".join(sorted(expected))]:
            expected = tried
    expected = list(expected)
    assert [f.name for f in kept] == expected == told["kept"]
    capsys.readouterr()
    assert greedy_members(recipe, recipe.soup, list(folders.values()), ask=False) == kept
    assert "begins" not in capsys.readouterr().out, "the same members and suite ask nothing again"
    with pytest.raises(UserError, match=r"soup\.metric: expected the score by which members join"):
        soup_members(load(merge_file(soup={"members": "greedy"}), "merge"))
