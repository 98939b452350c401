"""Models of which one has tokens that another lacks, whatever the kind of their vocabulary."""

import json

import pytest
from tokenizers import Tokenizer, models

from apo_soup.errors import UserError
from merge.new_tokens import check_new_tokens


def test_unigram_vocabularies_and_tokens_beside_them_are_compared(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        tokenizer = Tokenizer(models.Unigram([("<unk>", 0.0), ("a", -1.0)], unk_id=0))
        tokenizer.save(str(tmp_path / name / "tokenizer.json"))
    folders = [tmp_path / "a", tmp_path / "b"]
    check_new_tokens(folders, "merge.yaml:3")
    (tmp_path / "b" / "added_tokens.json").write_text(json.dumps({"<cite>": 2}))
    told = rf"merge\.yaml:3: {tmp_path}/a: expected the tokens of {tmp_path}/b, got 1 fewer \('<cite>'\)"
    with pytest.raises(UserError, match=told):
        check_new_tokens(folders, "merge.yaml:3")
    (tmp_path / "a" / "tokenizer.json").write_text("{")
    with pytest.raises(UserError, match="expected valid JSON"):
        check_new_tokens(folders, "merge.yaml:3")
