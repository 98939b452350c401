"""A model that is not there yet, followed through the files beside a recipe to its tokenizer."""

import json

import pytest

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.runs.makers import missing_sources, upstream

ROWS = {"datasets": [{"id": "rows.jsonl"}]}


@pytest.fixture
def recipe_of(tmp_path, monkeypatch):
    """Write stage files into a recipe's folder, with the working directory beside it; gives one of them, loaded."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "recipe"
    folder.mkdir()

    def write(name, **files):
        for stem, values in files.items():
            rows = {} if stem.startswith("merge") else {"dataset_mixture": ROWS}
            (folder / f"{stem}.yaml").write_text(json.dumps(rows | values))
        return load(folder / f"{name}.yaml", name if name in ("apo", "merge") else "sft")

    return write


def training(model, output, **keys):
    return {"model_name_or_path": model, "output_dir": output, **keys}


def way(recipe):
    found = upstream(recipe)
    return [file.path.name for file in found.files], found.model


def test_files_upstream_are_followed_to_the_first_model_that_is_there(recipe_of, tmp_path):
    (tmp_path / "base").mkdir()
    files = {
        "mid": training("base", "out/mid"),
        "sft": training("./out/mid/", "out/sft"),
        "apo": training("out/sft", "out/apo"),
    }
    assert way(recipe_of("mid", **files)) == ([], "base")
    assert way(recipe_of("sft")) == (["mid.yaml"], "base")
    assert way(recipe_of("apo")) == (["sft.yaml", "mid.yaml"], "base")
    (tmp_path / "out" / "mid").mkdir(parents=True)
    assert way(recipe_of("apo")) == (["sft.yaml"], "./out/mid/")


def test_a_model_of_the_hub_ends_the_way_and_a_folder_like_an_id_does_not(recipe_of):
    """`out/mid` could be an id of the Hub; the file that writes it says what it is."""
    files = {"mid": training("owner/base", "out/mid"), "sft": training("out/mid", "out/sft")}
    assert way(recipe_of("sft", **files)) == (["mid.yaml"], "owner/base")
    assert way(recipe_of("sft", sft=training("owner/other", "out/sft"))) == ([], "owner/other")


def test_files_that_go_round_end(recipe_of):
    files = {"mid": training("out/sft", "out/mid"), "sft": training("out/mid", "out/sft")}
    assert way(recipe_of("sft", **files))[0] == ["mid.yaml", "sft.yaml"]
    assert way(recipe_of("sft", sft=training("out/sft", "out/sft"))) == (["sft.yaml"], "out/sft")


def test_a_member_has_its_own_keys(recipe_of):
    members = [{"chat_template": "{{ 1 }}"}, {"chat_template": "{{ 2 }}"}]
    files = {
        "apo": training("owner/base", "out/apo", members=members, checkpoints=[5]),
        "sft": training("out/apo/2", "x/sft"),
    }
    (above,) = upstream(recipe_of("sft", **files)).files
    assert above.chat_template == "{{ 2 }}"
    (above,) = upstream(recipe_of("sft", sft=training("out/apo/1-at-5", "x/sft"))).files
    assert above.chat_template == "{{ 1 }}"
    assert way(recipe_of("sft", sft=training("out/apo/3", "x/sft"))) == ([], "out/apo/3")


def test_base_in_a_merge_is_the_model_that_the_recipe_begins_with(recipe_of, tmp_path):
    (tmp_path / "recipe").mkdir(exist_ok=True)
    (tmp_path / "recipe" / "recipe.yaml").write_text("name: x\nmodel: owner/base\n")
    models = [{"model": name, "parameters": {"weight": 0.5}} for name in ("base", "soup")]
    merge = {"merge": {"merge_method": "linear", "dtype": "float32", "models": models}}
    after = training("merged", "runs/x/sft")
    assert way(recipe_of("sft", merge=merge, sft=after)) == ([], "owner/base")


def test_merged_models_have_the_tokenizer_of_their_first(recipe_of):
    models = [{"model": name, "parameters": {"weight": 0.5}} for name in ("soup", "mid")]
    merge = {"merge_method": "linear", "models": models}
    files = {
        "mid": training("owner/base", "out/mid"),
        "apo": training("out/mid", "out/apo"),
        "merge": {"output_dir": "out", "soup": {"members": "all"}, "merge": merge},
        "sft": training("out/merged", "x/sft"),
    }
    assert way(recipe_of("sft", **files)) == (["apo.yaml", "mid.yaml"], "owner/base")
    assert way(recipe_of("sft", sft=training("out/soup", "x/sft"))) == (["apo.yaml", "mid.yaml"], "owner/base")
    based = {"merge_method": "ties", "base_model": "mid", "models": models[:1]}
    files["merge"]["merge"] = based
    assert way(recipe_of("sft", **files)) == (["mid.yaml"], "owner/base")
    files["merge"]["merge"] = merge | {"tokenizer_source": "union"}
    with pytest.raises(
        UserError,
        match=r"merge\.yaml.*: merge: expected a merge whose tokenizer is that of its first .*"
        r"tokenizer_source of its own, and out/merged is not there yet; make it: `apo-soup run merge",
    ):
        upstream(recipe_of("sft", **files))


def test_a_broken_file_beside_is_told_only_where_it_is_on_the_way(recipe_of):
    files = {"mid": training("owner/base", "out/mid", learning_rate="fast"), "sft": training("owner/base", "out/sft")}
    assert way(recipe_of("sft", **files)) == ([], "owner/base")
    with pytest.raises(UserError, match=r"mid\.yaml:\d+: learning_rate: expected a number"):
        upstream(recipe_of("sft", sft=training("out/mid", "out/sft")))


def test_rows_that_a_file_beside_has_not_made_yet_are_named(recipe_of, tmp_path):
    rows = {"datasets": [{"id": "out/pairs/train.jsonl"}, {"id": "out/data/a.jsonl"}, {"id": "elsewhere.jsonl"}]}
    (tmp_path / "recipe" / "pairs.yaml").write_text("output_dir: out/pairs\n")
    (tmp_path / "recipe" / "data.yaml").write_text("output_dir: out/data\n")
    recipe = recipe_of("apo", apo=training("owner/base", "out/apo", dataset_mixture=rows))
    assert {n: file.name for n, file in missing_sources(recipe).items()} == {0: "pairs.yaml", 1: "data.yaml"}
    (tmp_path / "out" / "data").mkdir(parents=True)
    found = missing_sources(recipe)
    assert {n: file.name for n, file in found.items()} == {0: "pairs.yaml"}, "data has run, so a.jsonl is a slip"


def test_an_adapter_of_a_stage_comes_from_its_file(recipe_of):
    files = {"sft": training("owner/base", "out/sft"), "apo": training("out/sft/adapter", "out/apo")}
    assert way(recipe_of("apo", **files)) == (["sft.yaml"], "owner/base")
