"""Content hashes of files and values."""

from datetime import date
from pathlib import Path

import pytest

from apo_soup.hashing import hash_file, hash_tree, hash_value


def test_a_value_is_hashed_by_its_content_in_any_order():
    assert hash_value({"x": 1, "y": 2}) == hash_value({"y": 2, "x": 1})
    assert hash_value([1, 2]) != hash_value([2, 1])
    assert hash_value({"day": date(2025, 7, 8), "file": Path("a")}) == hash_value({"day": "2025-07-08", "file": "a"})
    with pytest.raises(TypeError, match="cannot be written as JSON"):
        hash_value({1, 2})


def test_a_tree_is_hashed_by_names_and_content_of_the_files_that_match(tmp_path):
    (tmp_path / "a.py").write_text("a")
    assert hash_file(tmp_path / "a.py") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    before = hash_tree(tmp_path)
    (tmp_path / "a.txt").write_text("b")
    assert hash_tree(tmp_path) == before
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert hash_tree(tmp_path) != before
