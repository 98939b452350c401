"""The small world's row files: bytes that a seed decides, splits that share nothing."""

import hashlib
import json

from apo_soup.toy.build import ROW_FILES, write_row_files


def test_files_of_different_splits_share_no_problem(tmp_path):
    counts = dict.fromkeys(ROW_FILES, 150)
    written = write_row_files(tmp_path, 0, counts)
    assert set(written) == set(counts)
    asked: dict[str, set[str]] = {}
    for name in ROW_FILES:
        for line in (tmp_path / f"{name}.jsonl").read_text().splitlines():
            row = json.loads(line)
            messages = row.get("messages") or row["prompt"]
            question = messages[0]["content"].removeprefix("Use the tool: ")
            asked.setdefault(ROW_FILES[name][1], set()).add(question)
    assert not asked["train"] & asked["heldout"]
    assert not asked["train"] & asked["preference"]
    assert not asked["preference"] & asked["heldout"]


def test_a_seed_decides_every_byte(tmp_path):
    """The rows that the tiny recipe's checkpoints and figures were made from; other bytes make all of them again."""
    assert write_row_files(tmp_path, 0, dict.fromkeys(ROW_FILES, 20)) == dict.fromkeys(ROW_FILES, 20)
    content = b"".join((tmp_path / f"{name}.jsonl").read_bytes() for name in ROW_FILES)
    assert hashlib.sha256(content).hexdigest() == "9886596fee6b563a8a39d6ca21f52896b7de806cc1e850ae158f74b1e27d2d78"
    write_row_files(tmp_path, 1, dict.fromkeys(ROW_FILES, 20))
    assert content != b"".join((tmp_path / f"{name}.jsonl").read_bytes() for name in ROW_FILES)
