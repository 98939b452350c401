"""Tokens and embeddings followed through a recipe's stages, before any of them has run."""

import json

import pytest
from helpers import TRAINING

from apo_soup.plan.check import check_recipe


@pytest.fixture
def problems(write_recipe, tiny_model, tmp_path):
    """What check says of a recipe of mid, sft, apo and merge, each with further keys; the base has 1,024 tokens."""

    def check(mid=None, sft=None, apo=None, merge=None):
        run = tmp_path / "run"
        answered = '{"prompt": "a", "chosen": "b", "rejected": "c", "completion": "b"}\n'
        (tmp_path / "rows.jsonl").write_text(answered)
        rows = {"dataset_mixture": {"datasets": [{"id": "rows.jsonl"}], "seed": 0}}
        training = {
            "mid": (str(tiny_model), TRAINING | (mid or {})),
            "sft": (str(run / "mid"), TRAINING | (sft or {})),
            "apo": (str(run / "sft"), TRAINING | {"members": [{"seed": 1}, {"seed": 2}]} | (apo or {})),
        }
        for name, (model, keys) in training.items():
            write_recipe(f"{name}.yaml", {"model_name_or_path": model, "output_dir": str(run / name)} | rows | keys)
        models = [{"model": m, "parameters": {"weight": w}} for m, w in (("soup", 0.9), ("mid", 0.1))]
        mix = {"merge_method": "linear", "dtype": "float32", "models": models} | (merge or {})
        write_recipe("merge.yaml", {"output_dir": str(run), "soup": {"members": "all"}, "merge": mix})
        return [problem.removeprefix(f"{tmp_path}/") for problem in check_recipe(tmp_path)[1]]

    return check


NEW = {"add_tokens": ["<cite>"], "resize_embeddings": True}


def test_tokens_that_fit_or_are_made_to_fit_are_no_problem(problems):
    assert problems() == []
    assert problems(mid=NEW) == []
    assert problems(mid=NEW, sft=NEW) == []
    assert problems(mid=NEW, sft={"add_tokens": ["<cite>", "<think>"]}) == []


def test_rows_beyond_the_window_of_the_model_are_told(problems, tmp_path, tiny_model):
    """Of the model that a stage begins with, as far as the stages before it make its window longer."""

    def notes(**files):
        assert problems(**files) == []
        recipes = check_recipe(tmp_path)[0]
        return [note.removeprefix(f"{tmp_path}/") for recipe in recipes for note in recipe.notes if "made for" in note]

    longest = json.loads((tiny_model / "config.json").read_text())["max_position_embeddings"]
    beyond = {"max_length": longest + 1}
    assert notes(mid={"max_length": longest}) == []
    (told,) = notes(sft=beyond)
    assert told.startswith("sft.yaml:")
    assert f": max_length: {longest + 1:,} tokens are more than the {longest:,} that " in told
    assert notes(mid={"max_position_embeddings": longest + 1}, sft=beyond) == []


def test_a_token_too_many_is_told_once_at_the_file_that_adds_it(problems, tiny_model):
    (told,) = problems(mid={"add_tokens": ["<cite>"]}, sft={"add_tokens": ["<cite>"]})
    assert told == (
        f"mid.yaml:19: add_tokens: expected a tokenizer of at most 1,024 ids, for the embeddings of {tiny_model} have "
        "as many rows, got one of 1,025; give resize_embeddings: true, or name a model that fits its tokenizer"
    )


def test_a_later_stage_is_followed_to_the_one_before_it(problems, tmp_path):
    (told,) = problems(mid=NEW, sft={"add_special_tokens": ["<|a|>", "<|b|>"]})
    assert told.startswith("sft.yaml:19: add_special_tokens: expected a tokenizer of at most 1,025 ids")
    assert "got one of 1,027; give resize_embeddings: true" in told


def test_preference_training_names_the_file_that_can_resize(problems, tiny_model, tmp_path):
    file = tiny_model / "tokenizer_config.json"
    before = file.read_text()
    try:
        file.write_text(json.dumps({**json.loads(before), "pad_token": "[PAD]"}))
        (told,) = problems(apo={"model_name_or_path": str(tiny_model)}, mid={"resize_embeddings": True})
    finally:
        file.write_text(before)
    assert told.startswith("apo.yaml:1: model_name_or_path: expected a tokenizer of at most 1,024 ids")
    assert "got one of 1,025; give resize_embeddings: true in the mid or sft file that makes this model, or" in told


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[]", "expected a mapping, got a list"),
        ('{"vocab_size": [9]}', "vocab_size: expected a whole number, got a list"),
        ('{"text_config": 3}', "text_config: expected a mapping, got the number 3"),
    ],
)
def test_a_configuration_of_another_form_is_told_at_check(problems, tiny_model, content, told):
    file = tiny_model / "config.json"
    before = file.read_text()
    try:
        file.write_text(content)
        (refused, *_) = problems(mid=NEW)
    finally:
        file.write_text(before)
    assert refused.endswith(f"mid.yaml:1: {file}: {told}; copy the model again")


def test_a_merge_of_unlike_tokens_is_told_before_the_training(problems):
    (told,) = problems(sft=NEW)
    assert told == (
        "merge.yaml:7: merge.models: expected models of the same tokens, got soup and mid, which differ in 1 "
        "('<cite>'); give both add_tokens, or say which tokens the result has with mergekit's key tokenizer_source"
    )
    assert problems(sft=NEW, merge={"tokenizer_source": "union"}) == []


def test_a_merge_of_embeddings_of_two_sizes_is_told(problems):
    (told,) = problems(mid=NEW, sft={"resize_embeddings": True, "resize_embeddings_multiple_of": 64})
    assert told == (
        "merge.yaml:7: merge.models: expected models with embeddings of one size, got soup with 1,088 rows and mid "
        "with 1,025; give both resize_embeddings, and the same resize_embeddings_multiple_of"
    )


def test_each_of_two_files_that_make_one_folder_is_looked_at(problems, write_recipe, tiny_model, tmp_path):
    write_recipe(
        "sft_b.yaml",
        TRAINING
        | {"model_name_or_path": str(tiny_model), "output_dir": str(tmp_path / "run" / "sft"), "add_tokens": ["<a>"]}
        | {"dataset_mixture": {"datasets": [{"id": "rows.jsonl"}]}},
    )
    told = problems(sft={"add_tokens": ["<b>"]})
    assert sorted(problem.partition(":")[0] for problem in told) == ["sft.yaml", "sft_b.yaml"]


def test_a_model_that_is_not_there_is_not_judged(problems):
    assert problems(mid={"model_name_or_path": "owner/nothing", "add_tokens": ["<a>"]}) == []
    (told,) = problems(mid={"model_name_or_path": "nowhere", "add_tokens": ["<a>"]})
    assert told.startswith("mid.yaml:1: model_name_or_path: expected a model folder, got nowhere, which is not there")
