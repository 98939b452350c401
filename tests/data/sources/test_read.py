"""Rows of every kind of file, their columns, and files and rows that cannot be read."""

import codecs
import json

import pytest
from data_helpers import MESSAGES, ROWS

from apo_soup.config.mixture import SourceKeys
from apo_soup.data.sources.chunks import count_rows
from apo_soup.data.sources.json_rows import json_file_rows, json_line_rows
from apo_soup.data.sources.read import read_rows
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError


def test_rows_read_the_same_from_every_kind_of_file(tmp_path, write_rows):
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [*ROWS[:5], {"messages": MESSAGES}]
    table = pa.Table.from_pylist(rows)
    write_rows("r.jsonl", rows)
    (tmp_path / "list.json").write_text(json.dumps(rows))
    (tmp_path / "inside.json").write_text(json.dumps({"version": 1, "data": rows}))
    (tmp_path / "lines.json").write_text("".join(json.dumps(r) + "\n" for r in rows))
    pq.write_table(table, tmp_path / "r.parquet")
    with pa.ipc.new_stream(str(tmp_path / "stream.arrow"), table.schema) as writer:
        writer.write_table(table)
    with pa.ipc.new_file(str(tmp_path / "file.arrow"), table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "bom.jsonl").write_bytes(codecs.BOM_UTF8 + (tmp_path / "r.jsonl").read_bytes())
    files = (
        "r.jsonl",
        "bom.jsonl",
        "list.json",
        "inside.json",
        "lines.json",
        "r.parquet",
        "stream.arrow",
        "file.arrow",
    )
    for name in files:
        assert [r.fields for r in read_rows(Source(str(tmp_path / name)), "x")] == rows, name
    found = list(read_rows(Source(str(tmp_path / "*.arrow")), "x"))
    assert [r.fields for r in found] == rows * 2
    assert found[0].place == f"{tmp_path}/file.arrow:row 0"
    (tmp_path / "one[1].json").write_text(json.dumps(rows[0]))
    assert [r.fields for r in read_rows(Source(str(tmp_path / "one[1].json")), "x")] == rows[:1]


def test_files_that_are_not_what_they_say_are_refused(tmp_path):
    for name, content, reason in (
        (
            "a.json",
            "[1, 2",
            "a.json:1: expected rows as JSON, got text that is not valid JSON at column 6: .*; correct the file",
        ),
        ("b.json", "3", "b.json: expected a JSON list of objects, or one object a line, got int"),
        ("c.parquet", "no", "c.parquet: expected a file of format parquet, got one that cannot be read"),
        ("d.arrow", "no", "d.arrow: expected a file of format arrow, got one that cannot be read"),
    ):
        (tmp_path / name).write_text(content)
        with pytest.raises(UserError, match=reason):
            list(read_rows(Source(str(tmp_path / name)), "x.yaml:3"))


def test_columns_are_chosen_and_renamed(write_rows):
    path = str(write_rows("r.jsonl", [{"question": "What?", "reply": "That.", "other": 1}]))
    entry = {"id": path, "columns": ["question", "reply"], "rename": {"question": "prompt", "reply": "completion"}}
    assert [r.fields for r in read_rows(Source.from_entry(SourceKeys(**entry)), "x")] == [
        {"prompt": "What?", "completion": "That."}
    ]
    with pytest.raises(
        UserError,
        match=r"x: source .*: columns, rename: expected columns that the rows have, got colour, which no row has",
    ):
        list(read_rows(Source.from_entry(SourceKeys(id=path, rename={"colour": "prompt"})), "x"))


def test_nulls_and_globs_mean_the_same_in_every_kind_of_file(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    call = {"name": "f", "arguments": {"a": 0, "b": None}}
    rows = [{"messages": None, "prompt": "Hi", "completion": "Yes", "chat_template_kwargs": {"enable_thinking": None}}]
    deep = tmp_path / "d" / "x" / "y"
    deep.mkdir(parents=True)
    for folder in (tmp_path / "d", deep):
        (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    kinds = [list(read_rows(Source(str(tmp_path / name)), "w")) for name in ("d/**/*.jsonl", "rows.parquet")]
    assert [len(k) for k in kinds] == [2, 1]
    for row in (*kinds[0], *kinds[1]):
        assert {k: v for k, v in row.fields.items() if v} == {"prompt": "Hi", "completion": "Yes"}
        assert "messages" not in row.fields
    (tmp_path / "calls.jsonl").write_text(json.dumps({"calls": [call], "x": None}) + "\n")
    for keep, arguments in ((False, {"a": 0}), (True, {"a": 0, "b": None})):
        (row,) = read_rows(Source(str(tmp_path / "calls.jsonl"), keep_nulls=keep), "w")
        assert row.fields == {"calls": [{"name": "f", "arguments": arguments}]}
        assert row.nulls is not keep


def test_a_bad_text_in_a_table_is_one_bad_row(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.array([b"one", b"\xff\xfe", b"three"]).cast(pa.binary())
    column = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    pq.write_table(pa.table({"text": column}), tmp_path / "rows.parquet")
    found = list(read_rows(Source(str(tmp_path / "rows.parquet")), "w"))
    assert [row.content for row in found] == [{"text": "one"}, None, {"text": "three"}]
    assert found[1].problem == (
        "expected UTF-8, got another encoding in one of the texts; convert texts before they are stored"
    )


def test_a_renamed_column_takes_the_place_of_one_of_that_name(write_rows):
    rows = write_rows("r.jsonl", [{"question": "Q?", "prompt": "OTHER", "completion": "A"}])
    (row,) = read_rows(Source(str(rows), rename=(("question", "prompt"),)), "here")
    assert row.fields == {"prompt": "Q?", "completion": "A"}


def test_a_column_of_nulls_may_be_named(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "r.parquet"
    pq.write_table(pa.table({"text": ["a"], "tools": pa.array([None], pa.string())}), file)
    assert [r.fields for r in read_rows(Source(str(file), columns=("text", "tools")), "here")] == [{"text": "a"}]


def test_a_bad_line_of_a_json_file_of_lines_is_one_bad_row(tmp_path):
    file = tmp_path / "r.json"
    good = [json.dumps({"text": t}).encode() for t in "abc"]
    file.write_bytes(b"\n".join([b"{broken", *good, b'{"text": "\xff"}']))
    rows = list(read_rows(Source(str(file)), "here"))
    assert [r.content for r in rows] == [None, {"text": "a"}, {"text": "b"}, {"text": "c"}, None]
    assert rows[0].problem.startswith("expected a JSON object, got a line that is not valid JSON at column 2: ")
    assert rows[-1].problem.startswith("expected UTF-8, got another encoding at byte 10 of the line; ")


def test_a_comma_that_nothing_follows_is_told_as_one(tmp_path):
    lines, listed = tmp_path / "r.jsonl", tmp_path / "r.json"
    lines.write_text('{"text": "a"},\n{"text": "b"}\n{"text": "c",}\n')
    rows = list(read_rows(Source(str(lines)), "here"))
    told = "expected a JSON object, got a line that is not valid JSON at column {}: a comma that nothing follows; "
    told += "write one object a line"
    assert [row.problem for row in rows][:2] == [told.format(14), None]
    assert "a comma that nothing follows" in rows[2].problem
    listed.write_text('[\n{"text": "a"},\n]\n')
    with pytest.raises(UserError, match=r"expected rows as JSON, .*: a comma that nothing follows; correct"):
        list(read_rows(Source(str(listed)), "here"))


def test_ndjson_is_jsonl_by_another_name(tmp_path):
    (tmp_path / "r.ndjson").write_text('{"text": "a"}\n{"text": "b"}\n')
    source = Source(str(tmp_path / "r.ndjson"))
    assert [row.content for row in read_rows(source, "here")] == [{"text": "a"}, {"text": "b"}]
    assert count_rows(source, "here") == 2


def test_a_key_that_an_object_has_twice_is_a_bad_row_and_not_the_last_of_them(tmp_path):
    twice = (
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "GOOD", "content": "BAD"}]}'
    )
    told = "expected each key of an object once, got content twice; remove one"
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{twice}\n{{"text": "sound"}}\n')
    assert [(row.content, row.problem) for row in json_line_rows(file, "x")] == [
        (None, told),
        ({"text": "sound"}, None),
    ]
    (tmp_path / "rows.json").write_text(f"[{twice}]")
    with pytest.raises(UserError, match=rf"rows\.json: {told}"):
        list(json_file_rows(tmp_path / "rows.json", "x"))


def test_a_damaged_table_ends_in_bad_rows_or_one_sentence_and_never_in_the_reader(tmp_path):
    """Offsets that point outside of their buffers are what ends a process, so each is changed in turn."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [
        {"messages": [{"role": "user", "content": f"What is {n}?"}], "note": None if n % 2 else "x"} for n in range(8)
    ]
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(str(tmp_path / "whole.arrow"), table.schema) as writer:
        writer.write_table(table)
    pq.write_table(table, tmp_path / "whole.parquet", write_page_checksum=True)
    bad = stopped = 0
    for suffix in (".arrow", ".parquet"):
        whole = (tmp_path / f"whole{suffix}").read_bytes()
        damaged = tmp_path / f"damaged{suffix}"
        for place in range(0, len(whole), 7):
            damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 0x80]) + whole[place + 1 :])
            try:
                bad += any(row.content is None for row in read_rows(Source(str(damaged)), "x"))
            except UserError as error:
                stopped += str(damaged) in str(error)
    assert bad > 20
    assert stopped > 100


TOOL_ROWS = [
    {
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": name, "arguments": arguments}}]},
            {"role": "tool", "content": "3"},
            {"role": "assistant", "content": "3"},
        ],
        "tools": [{"name": name, "parameters": dict.fromkeys(arguments, "int")}],
    }
    for name, arguments in (("f", {"a": 1}), ("g", {"b": 2}))
]


def test_rows_with_calls_come_back_from_every_file_that_datasets_writes(tmp_path, write_rows):
    from datasets import Dataset, load_dataset

    written = str(write_rows("in.jsonl", TOOL_ROWS))
    of_structs = Dataset.from_list(TOOL_ROWS)
    of_json = load_dataset("json", data_files=written, split="train", cache_dir=str(tmp_path / "cache"))
    of_structs.to_json(tmp_path / "structs.jsonl")
    of_structs.to_parquet(tmp_path / "structs.parquet")
    of_json.to_parquet(tmp_path / "json.parquet")
    of_json.save_to_disk(tmp_path / "saved")
    names = ("structs.jsonl", "structs.parquet", "json.parquet", "saved/*.arrow")
    for name in names:
        found = list(read_rows(Source(str(tmp_path / name)), "w"))
        assert [row.fields for row in found] == TOOL_ROWS, name
        assert {row.nulls for row in found} == {name == "structs.jsonl"}
    kept = [row.fields for row in read_rows(Source(str(tmp_path / "structs.jsonl"), keep_nulls=True), "w")]
    assert kept[0]["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"a": 1, "b": None}


def test_arguments_in_a_map_of_a_table_are_a_mapping(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    maps = pa.array([[("a", "1")], [("a", "1"), ("a", "2")]], pa.map_(pa.string(), pa.string()))
    pq.write_table(pa.table({"arguments": maps}), tmp_path / "r.parquet")
    good, bad = read_rows(Source(str(tmp_path / "r.parquet")), "w")
    assert good.content == {"arguments": {"a": "1"}}
    assert bad.problem.startswith("expected each key of a map once, got one twice: ")


def test_a_bad_text_in_a_column_of_json_is_one_bad_row(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    column = pa.ExtensionArray.from_storage(pa.json_(), pa.array(['{"a": null}', "{", None]))
    pq.write_table(pa.table({"tools": column}), tmp_path / "r.parquet")
    found = list(read_rows(Source(str(tmp_path / "r.parquet")), "w"))
    assert [(row.content, row.nulls) for row in found] == [({"tools": {}}, True), (None, False), ({}, False)]
    assert found[1].problem.startswith("expected valid JSON in columns of JSON, got text that is not: ")


@pytest.mark.parametrize(
    "content",
    [
        {"prompt": {"0": "a", "1": "b"}, "completion": {"0": "c", "1": "d"}},
        {"0": {"prompt": "a", "completion": "c"}, "1": {"prompt": "b", "completion": "d"}},
        {"columns": ["prompt", "completion"], "index": [0, 1], "data": [["a", "c"], ["b", "d"]]},
    ],
)
def test_rows_by_column_or_by_number_are_told_with_what_writes_them_as_rows(tmp_path, content):
    (tmp_path / "r.json").write_text(json.dumps(content))
    with pytest.raises(
        UserError, match=r'r.json: expected a list of rows, got them by .* to_json\(..., orient="records"'
    ):
        list(read_rows(Source(str(tmp_path / "r.json")), "x"))


def test_a_file_with_two_lists_of_rows_is_refused_and_its_other_splits_are_not(tmp_path):
    (tmp_path / "two.json").write_text(json.dumps({"data": ROWS[:1], "examples": ROWS[1:3]}))
    with pytest.raises(UserError, match=r"two.json: expected one list of rows, got data and examples; leave the one"):
        list(read_rows(Source(str(tmp_path / "two.json")), "x"))
    (tmp_path / "splits.json").write_text(json.dumps({"train": ROWS[:1], "test": ROWS[1:3]}))
    assert [row.content for row in read_rows(Source(str(tmp_path / "splits.json")), "x")] == ROWS[:1]


def test_a_table_with_a_name_twice_is_refused_and_not_read_by_its_last_column(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [pa.array(["a"]), pa.array(["b"])]
    struct = pa.StructArray.from_arrays(texts, names=["role", "role"])
    listed = pa.ListArray.from_arrays([0, 1], struct)
    tables = {
        "flat": pa.Table.from_arrays(texts, names=["text", "text"]),
        "inside": pa.Table.from_arrays([listed], names=["messages"]),
    }
    for name, table in tables.items():
        pq.write_table(table, tmp_path / f"{name}.parquet")
        with pa.ipc.new_stream(str(tmp_path / f"{name}.arrow"), table.schema) as writer:
            writer.write_table(table)
        for kind in ("parquet", "arrow"):
            with pytest.raises(
                UserError, match=r"expected a name of its own for every column, got '(text|role)' twice"
            ):
                list(read_rows(Source(str(tmp_path / f"{name}.{kind}")), "x"))


def test_two_columns_of_one_new_name_are_taken_where_a_row_has_one_of_them(write_rows):
    rows = [
        {"q": "1", "a": "x"},
        {"q": "2", "b": "y", "a": ""},
        {"q": "3", "a": "x", "b": "y"},
        {"q": "4", "a": "", "b": ""},
    ]
    rename = {"q": "prompt", "a": "completion", "b": "completion"}
    file = str(write_rows("r.jsonl", rows))
    found = list(read_rows(Source.from_entry(SourceKeys(id=file, rename=rename)), "x"))
    assert [row.content and row.content["completion"] for row in found] == ["x", "y", None, ""]
    told = "rename: expected one column of a row to become completion, got a and b; rename the one that is meant"
    assert found[2].problem == told
