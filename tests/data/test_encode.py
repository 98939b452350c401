"""Portions of rows through an encoder, in one process and in many."""

import json
import os
import signal

import pytest
from data_helpers import ROWS, prepared

from apo_soup.config.load import load
from apo_soup.data.encode import encoded_batches
from apo_soup.data.encode_supervised import SupervisedEncoder
from apo_soup.data.options import Options
from apo_soup.data.reading import mixture_portions
from apo_soup.data.sources import chunks
from apo_soup.errors import UserError


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv"])
def test_many_processes_make_the_same_folder_as_one(name, training_recipe, write_rows, monkeypatch):
    """Of a file that is read in parts, and of one that is read here: draws, refused rows and duplicates too."""
    monkeypatch.setattr(chunks, "BYTES_A_CHUNK", 2000)
    lists = [json.dumps(row["messages"]).replace('"', '""') for row in ROWS]
    rows = write_rows("rows.jsonl", [*ROWS * 2, {"messages": 3}, *ROWS[:5]])
    if name == "rows.csv":
        rows.with_name(name).write_text("messages\n" + "".join(f'"{row}"\n' for row in lists * 2))
    sources = [{"id": str(rows.with_name(name)), "weight": 0.7}, {"id": str(rows), "weight": 2.4}]
    mixture = {"datasets": sources, "deduplicate": "exact", "test_split_size": 3}
    path = training_recipe(mixture=mixture, max_reject_share=0.5, chat_template_kwargs={"enable_thinking": False})
    made = []
    for processes in ("1", "3"):
        folder, splits, stats = prepared(
            path, "--output_dir", str(path.parent / processes / "sft"), "--dataset_num_proc", processes
        )
        lists = [(folder / kind).read_text() for kind in ("rejects.jsonl", "dropped.jsonl") if (folder / kind).exists()]
        rest = {k: v for k, v in stats.items() if k not in ("seconds", "tokens_per_second", "peak_memory_mb")}
        made.append(({name: split.to_list() for name, split in splits.items()}, lists, rest))
    assert made[0] == made[1]


class EndedEncoder(SupervisedEncoder):
    """An encoder that the system ends at a certain row, as where memory is short."""

    def parsed(self, fields, arguments):
        if "the last of all" in str(fields):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().parsed(fields, arguments)


def test_a_process_that_ends_names_the_rows_it_was_at(training_recipe, tokenizer, write_rows, monkeypatch):
    monkeypatch.setattr(chunks, "BYTES_A_CHUNK", 2000)
    bad = {"messages": [{"role": "user", "content": "the last of all"}, *ROWS[0]["messages"][1:]]}
    recipe = load(training_recipe([*ROWS, bad]), "sft")
    rows = recipe.dataset_mixture.datasets[0].id
    encoder = EndedEncoder(tokenizer, Options.of(recipe))
    parts = [chunks.source_chunks(chunks.Source(rows), "here")]
    line = parts[0][-1].part.first_line
    with pytest.raises(UserError, match=f"rows.jsonl, from line {line} on: expected rows that .* ended by SIGKILL; if"):
        list(encoded_batches(mixture_portions(recipe, parts, None, print), encoder, 2))
