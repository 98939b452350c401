"""Where the rows of a step are."""

import json

from apo_soup.data.documents import PLACES_FILE
from apo_soup.training.step_rows import CollatorWithRows, places_told, taken_from


def test_places_are_told_once_each_and_only_the_first(tmp_path):
    (tmp_path / PLACES_FILE).write_text("".join(f"{json.dumps(f'rows.jsonl:{line}')}\n" for line in range(1, 31)))
    assert places_told(tmp_path, [4, 0, 4]) == "rows.jsonl:5, rows.jsonl:1"
    told = places_told(tmp_path, range(29, 9, -1))
    assert told.startswith("rows.jsonl:30, rows.jsonl:29, ")
    assert told.endswith("rows.jsonl:23 and 12 more")
    assert places_told(tmp_path, []) == "rows that are not known"
    lost = f"the kept rows 3, 40 of {tmp_path}, whose {PLACES_FILE} cannot be read"
    assert places_told(tmp_path, [3, 40]) == lost, "a row that is not there"
    (tmp_path / PLACES_FILE).unlink()
    assert places_told(tmp_path, [3, 40]) == lost


def test_a_batch_brings_its_rows_along_until_they_are_taken():
    collator = CollatorWithRows(lambda rows: {"width": len(rows)})
    batch = collator([{"rows": [5, 6]}, {"rows": [6]}])
    assert taken_from(batch) == [5, 6, 6]
    assert batch == {"width": 2}
    assert taken_from(batch) == []
    assert collator([{"input_ids": [1]}]) == {"width": 1}, "held-out rows have none"
