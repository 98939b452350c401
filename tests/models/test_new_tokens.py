"""Tokens that a recipe adds to the tokenizer, and what is refused before any row is tokenised."""

import json
import shutil

import pytest
from helpers import TRAINING, chat

from apo_soup.config.load import load
from apo_soup.errors import UserError
from apo_soup.models.embeddings import embedding_rows, rows_for
from apo_soup.models.new_tokens import unknown_control_words
from apo_soup.models.recipe_tokenizer import recipe_tokenizer
from apo_soup.models.tokenizer import tokenizer_text


@pytest.fixture
def loaded(write_rows, write_recipe, tiny_model, tmp_path):
    """The tokenizer of an sft file with the given keys; the model is `tiny_model`, of 1,024 rows."""

    def make(**changes):
        rows = write_rows("rows.jsonl", [chat("Hi", "Yes")])
        values = TRAINING | {
            "model_name_or_path": str(tiny_model),
            "output_dir": str(tmp_path / "run" / "sft"),
            "dataset_mixture": {"datasets": [{"id": str(rows)}], "seed": 0},
        }
        return recipe_tokenizer(load(write_recipe("sft.yaml", values | changes), "sft"))

    return make


def added(tokenizer, text):
    (token_id,) = tokenizer(text, add_special_tokens=False).input_ids
    return tokenizer.added_tokens_decoder[token_id]


def refusal(make, **changes):
    with pytest.raises(UserError) as refused:
        make(**changes)
    assert "\n" not in str(refused.value)
    return str(refused.value).partition("sft.yaml:")[2].partition(": ")[2]


def test_new_tokens_get_the_next_ids_and_control_tokens_are_left_out_by_decoding(loaded):
    tokenizer = loaded(add_tokens=["<cite>", "思 考"], add_special_tokens="<|tool|>", resize_embeddings=True)
    ids = tokenizer("a<cite>b思 考c<|tool|>", add_special_tokens=False).input_ids
    assert [i for i in ids if i >= 1024] == [1024, 1025, 1026]
    assert tokenizer.decode(ids) == "a<cite>b思 考c<|tool|>"
    assert tokenizer.decode(ids, skip_special_tokens=True) == "a<cite>b思 考c"


def test_a_tokens_ids_do_not_depend_on_what_stands_beside_it(loaded):
    tokenizer = loaded(add_tokens=["<cite>"], resize_embeddings=True)
    assert tokenizer.tokenize(" <cite> x") == ["Ġ", "<cite>", *tokenizer.tokenize(" x")]


def test_a_token_that_is_there_already_stays_what_it_is(loaded):
    """A word piece that became an added token would be cut out of every word that holds it."""
    plain = loaded()
    piece = next(p for p in plain.get_vocab() if len(p) > 2 and p.isalpha() and plain.tokenize(p) == [p])
    again = loaded(add_tokens=["<think>", piece], add_special_tokens=["<|im_start|>"])
    assert tokenizer_text(again) == tokenizer_text(plain)
    assert added(again, "<think>").special


def test_a_known_token_becomes_a_control_token_where_the_file_says_so(loaded, tiny_model, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    next(t for t in content["added_tokens"] if t["content"] == "<code>")["special"] = False
    file.write_text(json.dumps(content))
    assert not added(loaded(model_name_or_path=str(folder)), "<code>").special
    tokenizer = loaded(model_name_or_path=str(folder), add_special_tokens=["<code>"])
    assert added(tokenizer, "<code>").special
    assert len(tokenizer) == 1024


def test_a_new_token_may_end_turns(loaded):
    template = "{% for m in messages %}{{ m.role + m.content + '<|end|>' }}{% endfor %}"
    keys = {"chat_template": template, "eos_token": "<|end|>", "resize_embeddings": True}
    tokenizer = loaded(add_special_tokens=["<|end|>"], **keys)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (1024, 0)
    assert loaded(add_tokens=["<|end|>"], **keys).eos_token_id == 1024
    told = refusal(loaded, **keys)
    assert told.startswith("eos_token: expected a token of ")
    assert told.endswith("got <|end|>; name one of its vocabulary, or add it with add_special_tokens")


def test_control_words_that_are_no_tokens_are_found_in_the_template(loaded):
    template = (
        "{{- '<|im_start|>' -}}{% for m in messages %}"
        "{{ '<|turn|>' + m.role + '<｜sep｜>' + m.content + '<|im_end|>' }}{% endfor %}"
        "{{ '<|turn|>' if a < b and c | length > 1 }}"
    )
    assert unknown_control_words(loaded()) == []
    assert unknown_control_words(loaded(chat_template=template)) == ["<|turn|>", "<｜sep｜>"]
    new = loaded(chat_template=template, add_special_tokens=["<|turn|>"], resize_embeddings=True)
    assert unknown_control_words(new) == ["<｜sep｜>"]


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        (
            {"add_tokens": ["a<|im_end|>"]},
            "add_tokens.0: expected a token without the end-of-turn token <|im_end|>, got",
        ),
        (
            {"add_tokens": ["<a>", "<a>"]},
            "add_tokens.1: expected each token once, got '<a>' here and in add_tokens.0; keep one",
        ),
        (
            {"add_tokens": ["<a>"], "add_special_tokens": ["<b>", "<a>"]},
            "add_special_tokens.1: expected each token once, got '<a>' here and in add_tokens.0; keep one",
        ),
        ({"add_tokens": ["<a>", ""]}, "add_tokens.1: expected the text of a token, got none; leave it out"),
        ({"add_tokens": [["<a>"]]}, 'add_tokens.0: expected text, got ["<a>"]'),
        ({"add_tokens": [True]}, "add_tokens.0: expected text, got true"),
        ({"add_tokens": None}, "add_tokens: expected"),
        ({"pad_token": "<pad>"}, "pad_token: expected no such key, since it is the tokenizer's own"),
        (
            {"resize_embeddings_multiple_of": 64},
            "resize_embeddings_multiple_of: expected resize_embeddings: true beside it, got none; leave the key out",
        ),
        ({"resize_embeddings": True, "resize_embeddings_multiple_of": 0}, "resize_embeddings_multiple_of: expected"),
    ],
)
def test_a_slip_in_the_keys_is_one_sentence(loaded, keys, told):
    assert refusal(loaded, **keys).startswith(told)


def test_a_number_is_taken_as_its_text(loaded):
    assert len(loaded(add_tokens=[47_110_815], resize_embeddings=True)) == 1025


def test_a_tokenizer_larger_than_the_model_is_refused(loaded, tiny_model):
    assert refusal(loaded, add_tokens=["<a>", "<b>"]) == (
        f"add_tokens: expected a tokenizer of at most 1,024 ids, for the embeddings of {tiny_model} have as many rows, "
        "got one of 1,026; give resize_embeddings: true, or name a model that fits its tokenizer"
    )


@pytest.mark.parametrize(
    ("file", "change", "ids"),
    [
        ("tokenizer_config.json", lambda c: c.update(pad_token="[PAD]"), "1,025"),
        ("added_tokens.json", lambda c: c.update({"<a>": 1024, "<b>": 1030}), "1,026"),
        ("tokenizer.json", lambda c: c["model"]["vocab"].update({"zzzz": 2000}), "2,001"),
    ],
)
def test_the_highest_id_counts_wherever_it_comes_from(loaded, tiny_model, tmp_path, file, change, ids):
    from apo_soup.plan.check import check_recipe

    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    content = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
    change(content)
    (folder / file).write_text(json.dumps(content))
    told = refusal(loaded, model_name_or_path=str(folder))
    assert told.startswith("model_name_or_path: expected a tokenizer of at most 1,024 ids")
    assert f"got one of {ids}; give resize_embeddings: true" in told
    (problem,) = check_recipe(tmp_path)[1]
    assert problem.endswith(told)


def test_an_id_that_another_token_has_is_refused(loaded, tiny_model, tmp_path):
    """A vocabulary with a gap: the tokenizer counts its tokens, and would give the next one an id that is taken."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    vocabulary = content["model"]["vocab"]
    last = max(vocabulary, key=vocabulary.get)
    vocabulary[last] = 1024
    file.write_text(json.dumps(content))
    told = refusal(loaded, model_name_or_path=str(folder), add_tokens=["<a>"], resize_embeddings=True)
    assert told == (
        f"add_tokens.0: expected a free id for '<a>', got 1024, which {last!r} has; number the tokenizer's tokens "
        "without gaps"
    )


def test_preference_training_takes_the_tokens_of_its_model(write_recipe, write_rows, tiny_model, tmp_path):
    values = {
        "model_name_or_path": str(tiny_model),
        "output_dir": str(tmp_path / "run" / "apo"),
        "dataset_mixture": {"datasets": [{"id": "pairs.jsonl"}]},
        "add_tokens": ["<a>"],
    }
    with pytest.raises(UserError) as refused:
        load(write_recipe("apo.yaml", values), "apo")
    assert str(refused.value).endswith(
        "add_tokens: expected a key of apo files, got one of mid and sft files; leave it out"
    )


@pytest.mark.parametrize(("ids", "rows", "multiple", "expected"), [(1026, 1024, 1, 1026), (1026, 1024, 64, 1088),
    (1000, 1024, 1, 1024), (1000, 1024, 1000, 2000), (1024, 1024, 64, 1024), (5, 1000, 64, 1024)])  # fmt: skip
def test_rows_are_a_multiple_and_never_fewer(ids, rows, multiple, expected):
    assert rows_for(ids, rows, multiple) == expected


def test_rows_are_those_of_the_text_model():
    assert embedding_rows({"vocab_size": 5}) == 5
    assert embedding_rows({"vocab_size": 5, "text_config": {"vocab_size": 7}}) == 7
    assert embedding_rows({"text_config": None}) is None
