"""Ids in a merged model's settings are those of the tokenizer that it is saved with."""

import json

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from merge.complete import complete_folder
from merge.token_ids import translated_ids, with_special_tokens


@pytest.fixture
def folders(tmp_path):
    """A parent and a merged folder, whose tokenizers have the same words under other ids."""
    made = []
    for name, words, end in (
        ("parent", ["<pad>", "<end>", "<call>", "a"], "<end>"),
        ("merged", ["a", "<call>", "<stop>", "<pad>"], "<stop>"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        Tokenizer(WordLevel({word: n for n, word in enumerate(words)}, unk_token="a")).save(
            str(folder / "tokenizer.json")
        )
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": end, "pad_token": {"content": "<pad>"}}))
        made.append(folder)
    return made


def test_ids_become_those_of_the_tokenizer_that_is_saved(folders):
    parent, merged = folders
    settings = {"eos_token_id": [1, 2], "pad_token_id": 0, "bos_token_id": None, "suppress_tokens": [3, 1], "top_k": 2}
    assert translated_ids(settings, parent, merged) == {
        "eos_token_id": [1], "pad_token_id": 3, "bos_token_id": None, "suppress_tokens": [0], "top_k": 2,
    }  # fmt: skip
    assert translated_ids(settings, parent, parent) == settings
    assert with_special_tokens({"eos_token_id": 1, "vocab_size": 1}, parent, merged) == {
        "eos_token_id": 2, "pad_token_id": 3, "vocab_size": 1,
    }  # fmt: skip


def test_a_merged_model_ends_where_its_own_tokenizer_ends(folders):
    parent, merged = folders
    (merged / "config.json").write_text(json.dumps({"eos_token_id": 1, "pad_token_id": 0}))
    (parent / "generation_config.json").write_text(json.dumps({"eos_token_id": [1, 2], "pad_token_id": 0}))
    complete_folder(merged, parent, None, "here")
    settings = json.loads((merged / "generation_config.json").read_text())
    assert (settings["eos_token_id"], settings["pad_token_id"]) == ([2, 1], 3)
    config = json.loads((merged / "config.json").read_text())
    assert (config["eos_token_id"], config["pad_token_id"]) == (2, 3)
