"""`apo-soup prepare --on`: tasks of datatrove make shards and join them."""

import pytest
from data_helpers import ROWS

from apo_soup.cli.prepare_tasks import prepare_on, slurm_options
from apo_soup.config.load import load
from apo_soup.data.prepare import prepared_folder
from apo_soup.errors import UserError


def test_tasks_make_shards_and_join_them_and_what_is_done_is_not_done_again(
    write_recipe, write_rows, tiny_model, tokenizer, tmp_path, capfd
):
    pytest.importorskip("datatrove")
    sources = {"datasets": [{"id": str(write_rows("rows.jsonl", ROWS))}]}
    values = {
        "model_name_or_path": str(tiny_model),
        "output_dir": str(tmp_path / "run" / "sft"),
        "dataset_mixture": sources,
    }
    recipe = load(write_recipe("sft.yaml", values), "sft")

    def shards_made():
        prepare_on("local", recipe, ["--hub_token", "hf_planted"], 2, 1, [])
        return capfd.readouterr().out.count("shard ")

    assert shards_made() == 2
    folder = prepared_folder(recipe, tokenizer)
    assert (folder / "stats.json").is_file()
    folder.rename(folder.with_name("elsewhere"))
    assert shards_made() == 2, "joined shards are gone, so they are made again"
    assert (folder / "stats.json").is_file()
    assert shards_made() == 0
    logs = [file for file in (tmp_path / "run" / "logs").rglob("*") if file.is_file()]
    assert logs
    assert not [file for file in logs if b"planted" in file.read_bytes()]


def test_options_for_slurm_go_to_datatrove_or_to_sbatch():
    known = ["tasks", "partition", "cpus_per_task", "time"]
    words = ["partition=cpu", "cpus-per-task=8", "time=2:00:00", "account=me"]
    options = {"partition": "cpu", "cpus_per_task": 8, "time": "2:00:00", "sbatch_args": {"account": "me"}}
    assert slurm_options(words, known) == options
    for word, told in (
        ("partition", "expected KEY=VALUE, got partition; write it so, such as partition=cpu"),
        ("tasks=3", "expected an option that is free, got tasks, which prepare sets; leave it out"),
        ("time=1:00", "expected a partition, got time=1:00; add --slurm partition=NAME"),
    ):
        with pytest.raises(UserError, match=f"--slurm: {told}"):
            slurm_options([word], known)
