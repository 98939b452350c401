"""A tokenizer read from a model's files alone."""

import json

from tokenizers import Tokenizer, models

from apo_soup.models.stored_tokenizer import file_in, stored_tokenizer


def test_a_unigram_vocabulary_and_the_tokens_beside_it_are_read(tmp_path):
    Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0), ("b", -2.0)], unk_id=0)).save(
        str(tmp_path / "tokenizer.json")
    )
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<cite>": 4, "<quote>": 3}))
    (tmp_path / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": {"content": "</s>"}, "unk_token": "<unk>"})
    )
    found = stored_tokenizer(file_in(tmp_path), "here")
    assert found is not None
    assert found.get_vocab(with_added_tokens=True) == {"<unk>": 0, "a": 1, "b": 2, "<quote>": 3, "<cite>": 4, "</s>": 5}


def test_a_file_that_is_no_tokenizer_is_left_to_what_loads_it(tmp_path):
    assert stored_tokenizer(file_in(tmp_path), "here") is None
    (tmp_path / "tokenizer.json").write_text("{}")
    assert stored_tokenizer(file_in(tmp_path), "here") is None
