"""Batches of rows through an encoder, in one process and in many."""

from data_helpers import ROWS, prepared
from programs import run_ok


def test_many_processes_make_the_same_rows_as_one(training_recipe):
    path = training_recipe(ROWS * 4, max_reject_share=0.5)
    _, one, _ = prepared(path, "--output_dir", str(path.parent / "one" / "sft"))
    folder = path.parent / "two" / "sft"
    run_ok("-m", "apo_soup", "prepare", "--config", path, "--output_dir", folder, "--dataset_num_proc", "2")
    _, two, _ = prepared(path, "--output_dir", str(folder))
    assert one["train"].to_list() == two["train"].to_list()
