"""The rows that a measurement of memory takes: those of which most is computed."""

import json

from data_helpers import prepared as prepared_rows
from datasets import Dataset, DatasetDict, load_from_disk
from helpers import TRAINING, chat

from apo_soup.data.prepare import CONTENT, write_content_hashes
from apo_soup.plan.longest_rows import write_longest_rows


def prepared(folder, train):
    DatasetDict({"train": Dataset.from_dict(train), "test": Dataset.from_dict(train)}).save_to_disk(str(folder))
    (folder / "stats.json").write_text("{}")
    write_content_hashes(folder)
    return folder


def test_packed_rows_are_taken_by_what_is_computed_of_them(tmp_path):
    """The second row has the most places, of which 2 are computed; of the first it is 5, of the third 2 + 3."""
    rows = {
        "input_ids": [[1] * 6, [2] * 9, [3] * 7],
        "seq_lengths": [[6], [9], [3, 4]],
        "trained_ranges": [[4, 6], [1, 3], [1, 3, 5, 7]],
    }
    write_longest_rows(prepared(tmp_path / "p", rows), tmp_path / "longest", 2, pairs=False)
    found = load_from_disk(str(tmp_path / "longest"))
    assert [row[0] for row in found["train"]["input_ids"]] == [1, 3]
    assert len(found["test"]) == 3
    recorded = json.loads((tmp_path / "longest" / CONTENT).read_text())
    assert any(name.startswith("train/") for name in recorded)
    assert recorded != json.loads((tmp_path / "p" / CONTENT).read_text())


def test_pairs_are_taken_by_their_positions(tmp_path):
    pairs = {"prompt_ids": [[1], [2, 2, 2], [3]], "chosen_ids": [[1], [2], [3] * 9], "rejected_ids": [[1], [2], [3]]}
    write_longest_rows(prepared(tmp_path / "p", pairs), tmp_path / "longest", 1, pairs=True)
    assert load_from_disk(str(tmp_path / "longest"))["train"]["prompt_ids"] == [[3]]
    write_longest_rows(tmp_path / "p", tmp_path / "all", 9, pairs=True)
    assert len(load_from_disk(str(tmp_path / "all"))["train"]) == 3


def test_a_training_takes_them_for_its_prepared_rows(write_rows, write_recipe, tiny_model, tmp_path):
    """And prepares nothing in their place, whose measurement would be of all rows."""
    rows = str(write_rows("rows.jsonl", [chat(f"Say {n}", f"It is {n}. " * (n + 1), False) for n in range(12)]))
    values = {"model_name_or_path": str(tiny_model), **TRAINING, "packing": True, "max_length": 128}
    values |= {"output_dir": str(tmp_path / "run" / "sft"), "dataset_mixture": {"datasets": [{"id": rows}]}}
    path = write_recipe("sft.yaml", values)
    whole, splits, _ = prepared_rows(path)
    beside, said = tmp_path / "measured" / "prepared", []
    beside.mkdir(parents=True)
    write_longest_rows(whole, beside / whole.name, 2, pairs=False)
    found, taken, _ = prepared_rows(path, f"--output_dir={tmp_path / 'measured' / 'sft'}", say=said.append)
    assert found == beside / whole.name
    assert said == [f"prepared rows found in {found}; they passed the mask check when they were made"]
    assert len(taken["train"]) == 2 < len(splits["train"])
