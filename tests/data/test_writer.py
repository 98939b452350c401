"""A split opens with `datasets` and has the rows."""

import json

import numpy as np

from apo_soup.data.writer import write_split


def test_a_split_opens_with_datasets_and_holds_the_rows(tmp_path, monkeypatch):
    from datasets import load_from_disk

    monkeypatch.setattr("apo_soup.data.writer.TOKENS_A_BATCH", 10)
    rows = [(np.arange(n), np.full(n % 3, n)) for n in range(40)]
    assert write_split(tmp_path / "train", ("ids", "more"), rows) == 40
    written = load_from_disk(str(tmp_path / "train"))
    assert [(r["ids"], r["more"]) for r in written] == [(a.tolist(), b.tolist()) for a, b in rows]
    assert written.data.table.column(0).num_chunks > 30, "in batches of about TOKENS_A_BATCH"
    assert str(written.split) == "train"
    state = json.loads((tmp_path / "train" / "state.json").read_text())
    assert state["_fingerprint"] == f"{tmp_path.name}-train", "named by the content, as caches go by it"
    flagged = [(ids, n % 3 == 0) for n, (ids, _) in enumerate(rows)]
    assert write_split(tmp_path / "flagged", ("ids",), flagged, flags=("third",)) == 40
    assert load_from_disk(str(tmp_path / "flagged"))["third"][:5] == [True, False, False, True, False]
    assert write_split(tmp_path / "empty", ("ids",), []) == 0
    assert len(load_from_disk(str(tmp_path / "empty"))) == 0
