"""Shards, joined, are what one process makes, byte for byte."""

import json
import os
import re

import pytest
from data_helpers import ROWS

from apo_soup.config.load import load
from apo_soup.data.prepare import prepare_mixture
from apo_soup.data.shards import join_shards, plan_file, prepare_shard, shard_chunks, shard_plan
from apo_soup.data.sources import chunks
from apo_soup.data.sources.chunks import Chunk
from apo_soup.errors import UserError


def one_chunk(*chunk):
    """A plan with one chunk, as its file has it."""
    return json.dumps({"folder": "x", "chunks": [[chunk]]})


LINES = {"start": 0, "end": 9, "first_line": 1}
GROUP = {"number": 0, "first_row": 0, "size": 9}
# Files that hold no plan, and what is told of each.
OTHER_PLANS = {
    "": "expected valid JSON, got what is none (Expecting value: line 1 column 1 (char 0))",
    "[]": "expected a mapping, got a list",
    '{"folder": 3, "chunks": []}': "folder: expected text, got the number 3",
    '{"folder": "x", "chunks": [3]}': "chunks.0: expected a list, got the number 3",
    '{"folder": "x", "chunks": [[3]]}': "chunks.0.0.lines: expected a list, got the number 3",
    one_chunk("a", "lines", {"a": 1}, 1, 1): "expected chunks.0.0.lines.2.start, got nothing",
    one_chunk("a", "lines", LINES | {"a": 1}, 1, 1): "chunks.0.0.lines.2.a: expected no such key, got the number 1",
    one_chunk("a", "group", LINES, 1, 1): "expected chunks.0.0.group.2.number, got nothing",
    one_chunk("a", "lines", GROUP, 1, 1): "expected chunks.0.0.lines.2.start, got nothing",
    one_chunk("a", "group", GROUP | {"size": "9"}, 1, 1): "chunks.0.0.group.2.size: expected a whole number, got text",
    one_chunk("a", "groups", GROUP, 1, 1): "chunks.0.0.lines.1: expected 'lines', got text",
    one_chunk("a", "lines", LINES, 1): "expected chunks.0.0.lines.4, got nothing",
    one_chunk("a", "lines", LINES, None, -1): "chunks.0.0.lines.4: expected a number of 0 or more, got the number -1",
}


@pytest.fixture
def recipe(training_recipe, write_rows, monkeypatch):
    """Two sources, with a draw, duplicates, held-out rows and rows at fault, in many chunks."""
    monkeypatch.setattr(chunks, "BYTES_A_CHUNK", 2000)
    # Of the same words as another row, and none of its duplicates: its first answer is not trained.
    untrained = json.loads(json.dumps(ROWS[6]))
    untrained["messages"] += [dict(turn) for turn in untrained["messages"][-2:]]
    twice = json.loads(json.dumps(untrained))
    untrained["messages"][-3]["weight"] = 0
    rows = write_rows("rows.jsonl", [*ROWS, {"messages": 3}, *ROWS[:5], untrained, twice])
    lists = [json.dumps(row["messages"]).replace('"', '""') for row in ROWS]
    rows.with_name("rows.csv").write_text("messages\n" + "".join(f'"{row}"\n' for row in lists))
    sources = [{"id": str(rows), "weight": 1.4}, {"id": str(rows.with_name("rows.csv"))}]
    mixture = {"datasets": sources, "deduplicate": "near", "test_split_size": 3}
    path = training_recipe(mixture=mixture, max_reject_share=0.5, chat_template_kwargs={"enable_thinking": False})
    return load(path, "sft")


def content(folder):
    """Every file of a prepared folder, but for what tells of time and memory."""
    files = {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
    stats = json.loads(files.pop("stats.json"))
    return files, {k: v for k, v in stats.items() if k not in ("seconds", "tokens_per_second", "peak_memory_mb")}


def test_joined_shards_are_what_one_process_makes(recipe, tokenizer, tmp_path):
    said = []
    files = [prepare_shard(recipe, tokenizer, number, 3, said.append) for number in (3, 1, 2)]
    rows = [int(re.search(r"(\d+) rows", line)[1]) for line in said if line.startswith("shard ")]
    assert sum(rows) == 2 * len(ROWS) + 8
    assert prepare_shard(recipe, tokenizer, 2, 3, said.append) == files[2]
    assert said[-1] == f"shard found: {files[2]}"
    folder = join_shards(recipe, tokenizer, said.append)
    left = {file.name for file in folder.parent.iterdir() if not file.name.endswith(".lock")}
    assert left == {folder.name, "sft-rejects.jsonl"}, "no shard and no plan is left"
    joined = content(folder)
    folder.rename(tmp_path / "joined")
    assert prepare_mixture(recipe, tokenizer, said.append) == folder
    assert content(folder) == joined
    assert prepare_shard(recipe, tokenizer, 1, 2, said.append) == folder, "there is nothing to do for a shard"


def test_shards_that_are_missing_or_damaged_are_told(recipe, tokenizer):
    with pytest.raises(UserError, match=r"--join: expected shards in .*, got none for these rows and options; make"):
        join_shards(recipe, tokenizer)
    for number in (1, 3):
        file = prepare_shard(recipe, tokenizer, number, 4)
    with pytest.raises(UserError, match=r"--join: expected 4 shards in .*, got 2; make 2/4, 4/4, with --shard"):
        join_shards(recipe, tokenizer)
    prepare_shard(recipe, tokenizer, 2, 4)
    prepare_shard(recipe, tokenizer, 4, 4)
    whole = file.read_bytes()
    for damaged, missing in (
        (whole[:-7], 7),
        (whole[:-8], 8),
        (b"", 8),
        (b"\xff" * 8 + whole[8:], 2**64 - len(whole) + 7),
    ):
        file.write_bytes(damaged)
        told = rf"00003-of-00004\.rows: expected a whole shard .* damaged file \({missing} bytes are"
        with pytest.raises(UserError, match=told):
            join_shards(recipe, tokenizer)


def test_the_rows_are_read_for_a_plan_once_and_again_when_they_change(recipe, tokenizer, tmp_path):
    plan = shard_plan(recipe, tokenizer)
    file = plan_file(recipe, tokenizer)
    written = file.stat().st_mtime_ns
    assert shard_plan(recipe, tokenizer) == plan
    as_made = file.read_text(), file.stat()
    for damaged, told in OTHER_PLANS.items():
        file.write_text(damaged)
        with pytest.raises(UserError) as caught:
            shard_plan(recipe, tokenizer)
        assert str(caught.value) == (
            f"{file}: expected a plan of shards, got something else ({told}); remove this file and the folders "
            ".*.shards beside it, and prepare every shard again"
        )
    file.write_text(as_made[0])
    os.utime(file, ns=(as_made[1].st_atime_ns, as_made[1].st_mtime_ns))
    assert file.stat().st_mtime_ns == written
    rows = tmp_path / "rows.jsonl"
    rows.write_text(rows.read_text() + json.dumps(ROWS[0]) + "\n")
    assert shard_plan(recipe, tokenizer).folder != plan.folder


def test_a_shard_of_rows_that_changed_meanwhile_is_not_kept(training_recipe, tokenizer):
    """They change at the note on their mode, which is said before they are encoded."""
    path = training_recipe([{"messages": row["messages"]} for row in ROWS])
    recipe, rows = load(path, "sft"), path.with_name("rows.jsonl")
    text = rows.read_text()
    with pytest.raises(UserError, match="expected rows that stay, got a file that changed while it was read; run"):
        prepare_shard(recipe, tokenizer, 1, 1, lambda note: rows.write_text(text.replace("It is", "It's")))
    assert not list(path.parent.rglob("*.rows"))


def test_a_shard_that_is_made_while_all_are_joined_is_not_missed(training_recipe, tokenizer):
    """The others make and join theirs at the note on the rows' mode, which is said before a shard is encoded."""
    path = training_recipe([{"messages": row["messages"]} for row in ROWS])
    recipe, said = load(path, "sft"), []

    def join(note: str) -> None:
        said.append(note)
        if len(said) == 1:
            prepare_shard(recipe, tokenizer, 1, 1, said.append)
            join_shards(recipe, tokenizer, said.append)

    assert (prepare_shard(recipe, tokenizer, 2, 2, join) / "stats.json").is_file()
    assert said[-1].endswith("there is nothing to do for a shard")


def test_every_chunk_is_in_one_shard_and_shards_are_of_like_size():
    sources = [[Chunk(size=size) for size in (10, 30, 5)], [], [Chunk(size=size) for size in (20,) * 7]]
    for count in (1, 2, 5, 40):
        shards = [shard_chunks(sources, number, count) for number in range(1, count + 1)]
        assert [chunk for shard in shards for chunk in shard] == [(0, 0), (0, 1), (0, 2)] + [(2, n) for n in range(7)]
        sizes = [sum(sources[s][c].size for s, c in shard) for shard in shards]
        assert max(sizes) <= 185 / count + 30
