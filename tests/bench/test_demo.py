"""The demo of several seeds: the copy of the recipe that each is run from, and what is told of all together."""

import pytest
import yaml

from bench import demo


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    """A recipe that stands in the place of `recipes/tiny`, with one file of weights."""
    folder = tmp_path / "tiny"
    (folder / "base").mkdir(parents=True)
    (folder / "base" / "model.safetensors").write_bytes(b"weights")
    for name, text in {
        "data": "seed: 0\ncounts: {sft_tool: 3}\n",
        "mid": "seed: 0\ndataset_mixture: {datasets: [{id: a}], seed: 0}\n",
        "sft": "seed: 0\n",
        "pairs": "seed: 0\n",
        "apo": "members: [{seed: 1}, {seed: 2}]\nbeta: 0.05\n",
        "merge": "soup: {members: all}\n",
    }.items():
        (folder / f"{name}.yaml").write_text(text)
    monkeypatch.setattr(demo, "RECIPE", folder)
    return folder


def test_a_copy_has_seeds_of_its_own_and_follows_the_recipe(recipe, tmp_path):
    copy = demo.seeded_recipe(2, tmp_path / "runs")
    assert yaml.safe_load((copy / "mid.yaml").read_text())["dataset_mixture"]["seed"] == 2
    assert yaml.safe_load((copy / "apo.yaml").read_text())["members"] == [{"seed": 21}, {"seed": 22}]
    first = (copy / "base" / "model.safetensors").stat().st_ino
    assert demo.seeded_recipe(2, tmp_path / "runs") == copy
    assert (copy / "base" / "model.safetensors").stat().st_ino == first, "a copy that is up to date is kept"
    (recipe / "apo.yaml").write_text("members: [{seed: 1}]\nbeta: 0.1\n")
    (copy.parent / "tiny.new").mkdir()
    (copy.parent / "tiny.new" / "half.yaml").write_text("left by a run that was killed")
    demo.seeded_recipe(2, tmp_path / "runs")
    assert yaml.safe_load((copy / "apo.yaml").read_text()) == {"members": [{"seed": 21}], "beta": 0.1}
    assert [file.name for file in copy.parent.iterdir()] == ["tiny"]
    assert not (copy / "half.yaml").exists()


def test_a_mean_over_seeds_tells_of_how_many():
    def claim(value, seen):
        return [{"name": "won_back", "value": value, "seen": seen}]

    (found,) = demo.claims_over_seeds([claim(0.2, True), claim(None, False), claim(0.4, True)])
    assert (found["value"], found["n"], found["seen"]) == (pytest.approx(0.3), 2, False)
    assert found["values"] == [0.2, None, 0.4]
