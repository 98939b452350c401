"""Ids of the Hub, against a Hub on loopback: rows streamed and whole, configurations, revisions, models."""

import json

import pytest
from helpers import chat, python
from hub import Hub, commit, python_with_hub

ENGLISH = [chat(f"What is {n} + {n}?", f"It is {2 * n}", False) for n in range(40)]
FRENCH = [chat(f"Combien font {n} + {n} ?", f"Cela fait {2 * n}", False) for n in range(30)]
CARD = b"""---
configs:
- config_name: english
  data_files: [{split: train, path: english/train.jsonl}, {split: test, path: english/test.jsonl}]
- config_name: french
  data_files: [{split: train, path: french/train.jsonl}]
---
"""


def lines(rows) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


@pytest.fixture
def hub():
    with Hub() as served:
        files = {"README.md": CARD, "english/train.jsonl": lines(ENGLISH), "french/train.jsonl": lines(FRENCH)}
        files["english/test.jsonl"] = lines(ENGLISH[:5])
        served.put("dataset", "maker/rows", files)
        served.put("dataset", "maker/rows", {**files, "french/train.jsonl": lines(FRENCH[:10])}, "v1")
        yield served


def sft(tiny_model, tmp_path, *sources) -> dict:
    values = {"model_name_or_path": str(tiny_model), "output_dir": str(tmp_path / "run" / "sft"), "max_length": 64}
    return values | {"assistant_only_loss": True, "dataset_mixture": {"datasets": list(sources), "seed": 0}}


@pytest.mark.parametrize("streaming", [False, True])
def test_rows_of_the_hub_by_configuration_split_revision_and_stream(hub, tiny_model, write_recipe, tmp_path, streaming):
    french = {"id": "maker/rows", "config": "french", "revision": "v1", "streaming": streaming}
    sources = [
        {"id": "maker/rows", "config": "english", "split": "train", "weight": 0.5, "streaming": streaming},
        french,
    ]
    path = write_recipe("sft.yaml", sft(tiny_model, tmp_path, *sources))
    result = python_with_hub(hub, "-m", "apo_soup", "prepare", "--config", path)
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "run" / "prepared").glob("sft-*")
    total = json.loads((folder / "stats.json").read_text())["total"]
    assert (total["read"], total["kept"]) == (50, 30)
    if streaming:
        return
    again = python_with_hub(hub, "-m", "apo_soup", "prepare", "--config", path)
    assert "prepared rows found" in again.stdout
    hub.put("dataset", "maker/rows", {"README.md": CARD, "english/train.jsonl": lines(ENGLISH[:20])})
    moved = python_with_hub(
        hub, "-m", "apo_soup", "prepare", "--config", path, "--dataset_mixture.datasets.1.weight", "1"
    )
    assert "prepared rows found" not in moved.stdout, "the branch moved to another commit"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": "maker/nothing"}, "source maker/nothing:french:train: expected a dataset, got "),
        ({"config": "german"}, "expected a dataset, got "),
        ({"config": "english", "split": "validation"}, "expected a dataset, got "),
    ],
)
def test_what_the_hub_has_not_is_one_sentence(hub, tiny_model, write_recipe, tmp_path, change, reason):
    path = write_recipe("sft.yaml", sft(tiny_model, tmp_path, {"id": "maker/rows", "config": "french"} | change))
    result = python_with_hub(hub, "-m", "apo_soup", "prepare", "--config", path)
    assert result.returncode == 2
    assert reason in result.stderr
    assert "Traceback" not in result.stderr


def test_check_asks_the_hub_for_every_id_at_once(hub, tiny_model, write_recipe, tmp_path):
    sources = [{"id": "maker/rows", "config": "french"}, {"id": "maker/rows", "revision": "v9"}, {"id": "maker/none"}]
    path = write_recipe("sft.yaml", sft("maker/model", tmp_path, *sources))
    result = python_with_hub(hub, "-m", "apo_soup", "check", path.parent)
    assert result.returncode == 2
    told = [line[line.index(": expected ") + 2 :] for line in result.stderr.splitlines()]
    way = "which the Hub does not have, or not for you; correct it, or log in with hf auth login"
    assert told == [
        f"expected a model of the Hub, or a path, got maker/model, {way}",
        "expected a revision of maker/rows on the Hub, got v9, which it does not have; correct it",
        f"expected a dataset of the Hub, or a path, got maker/none, {way}",
    ]


def test_check_says_which_ids_it_did_not_see(tiny_model, write_recipe, tmp_path):
    path = write_recipe("sft.yaml", sft(tiny_model, tmp_path, {"id": "maker/rows"}))
    result = python("-m", "apo_soup", "check", path.parent, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "the Hub was not heard about maker/rows; whether they are there was not seen" in result.stdout


def test_a_merge_of_models_of_the_hub_by_branch(hub, tiny_model, write_recipe, tmp_path):
    """As recipes/smollm3/merge_published.yaml names SmolLM3's parents: one repository, two branches."""
    import torch
    from helpers import state_dict
    from safetensors.torch import load, save

    files = {f.name: f.read_bytes() for f in tiny_model.iterdir() if f.is_file()}
    weights = load(files["model.safetensors"])
    hub.put(
        "model", "maker/checkpoints", {**files, "model.safetensors": save(weights, {"format": "pt"})}, "it-soup-APO"
    )
    moved = {name: tensor + 1 for name, tensor in weights.items()}
    hub.put(
        "model", "maker/checkpoints", {**files, "model.safetensors": save(moved, {"format": "pt"})}, "it-mid-training"
    )
    models = [
        {"model": "maker/checkpoints@it-soup-APO", "parameters": {"weight": 0.9}},
        {"model": "maker/checkpoints@it-mid-training", "parameters": {"weight": 0.1}},
    ]
    merge = {"merge_method": "linear", "dtype": "float64", "out_dtype": "float32", "models": models}
    path = write_recipe("merge.yaml", {"output_dir": str(tmp_path / "run"), "merge": merge})
    result = python_with_hub(hub, "-m", "merge", "--config", path, "--only", "merged")
    assert result.returncode == 0, result.stderr
    merged = tmp_path / "run" / "merged"
    for name, tensor in state_dict(merged).items():
        torch.testing.assert_close(tensor, weights[name] + 0.1, rtol=0, atol=1e-6)
    assert (merged / "tokenizer.json").is_file()
    inputs = json.loads((merged / "manifest.json").read_text())["inputs"]
    soup = commit(hub.repositories["model", "maker/checkpoints"]["it-soup-APO"])
    assert any(soup in value for value in inputs.values()), "the manifest names the commit, not only the branch"
