"""Rows of CSV and TSV files."""

import csv
import json

import pytest
from data_helpers import BAD, GOOD, MESSAGES, PROMPT, parsed_row

from apo_soup.data.sources.csv_rows import csv_rows
from apo_soup.data.sources.read import read_rows
from apo_soup.data.sources.rows import SourceRow
from apo_soup.data.sources.source import Source
from apo_soup.errors import UserError


@pytest.fixture
def read(tmp_path):
    """The rows of a file of the given name and content."""

    def rows_of(content: str | bytes, name: str = "rows.csv") -> list[SourceRow]:
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return list(read_rows(Source(str(file)), "sft.yaml:3"))

    return rows_of


def contents(rows: list[SourceRow]) -> list:
    return [row.content for row in rows]


def test_quoted_texts_hold_separators_quotes_and_line_breaks(read, tmp_path):
    rows = [{"prompt": 'Say "a, b"', "completion": "one\ntwo\n\n, three"}, {"prompt": "x" * 200_000, "completion": ""}]
    for name, separator, ends in (("r.csv", ",", "\r\n"), ("r.tsv", "\t", "\n"), ("R.CSV", ",", "\r")):
        with (tmp_path / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=separator, lineterminator=ends)
            writer.writeheader()
            writer.writerows(rows)
        found = list(read_rows(Source(str(tmp_path / name)), "x"))
        assert contents(found) == rows
        assert found[0].place == f"{tmp_path}/{name}:2"
    assert contents(read(b"\xef\xbb\xbfprompt,completion\n\nq,a\n")) == [{"prompt": "q", "completion": "a"}]


@pytest.mark.parametrize(
    ("line", "separator"),
    [("sep=;\r\n", ";"), ("SEP=;\n", ";"), ('"sep=|"\n', "|"), ("\ufeffsep=,\n", ","), ("sep=\t\n", "\t")],
)
def test_a_line_of_excels_says_the_separator_of_the_others(line, separator, read):
    rows = read(line + "prompt*completion\nq:*a\nq\n".replace("*", separator))
    assert contents(rows) == [{"prompt": "q:", "completion": "a"}, None]
    assert [row.place.rpartition(":")[2] for row in rows] == ["3", "4"]


def test_a_record_at_fault_is_one_bad_row_with_its_line(read, tmp_path):
    content = b'prompt,completion\nq,a\nq,a,b\n"q\nq",a\nq\n"q"q,a\nq,\xe9\nq,a\n'
    rows = read(content)
    good = {"prompt": "q", "completion": "a"}
    assert contents(rows) == [good, None, {"prompt": "q\nq", "completion": "a"}, None, None, None, good]
    assert [row.place.rpartition(":")[2] for row in rows] == ["2", "3", "4", "6", "7", "8", "9"]
    quote = "quote texts that hold separators or line breaks"
    assert [row.problem for row in rows if row.problem] == [
        f"expected 2 fields, got 3; {quote}",
        f"expected 2 fields, got 1; {quote}",
        """expected valid CSV, got what is none (',' expected after '"'); double the quotes inside of texts""",
        "expected UTF-8, got another encoding in this record; convert the file: with iconv "
        "-f WINDOWS-1252 -t UTF-8, by saving it as CSV UTF-8 in Excel, or in Python, which reads it with "
        "open(FILE, encoding='cp1252')",
    ]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            'prompt,completion\nq,"a\nq,a\n',
            "rows.csv:2: expected a closing quote, got the end of the file inside a text of",
        ),
        (
            "prompt|completion\nq|a\n",
            "rows.csv:1: expected columns separated by ',', got one column 'prompt|completion' wi",
        ),
        (
            "What is it?,It is so\nq,a\n",
            "rows.csv:1: expected the names of the columns in the first line, got the text 'What is it",
        ),
        (
            "prompt,prompt\nq,a\n",
            "rows.csv:1: expected a name of its own for every column, got 'prompt' twice; rename one",
        ),
        ("prompt,,c\nq,a,b\n", "rows.csv:1: expected a name for every column, got none for column 2; name it"),
        (
            "prompt,completion\nq,a\n".encode("utf-16"),
            "expected text in UTF-8, got UTF-16; convert the file: with iconv",
        ),
        (
            "prompt,completion\nq,a\n".encode("utf-16le"),
            "got zero bytes at its beginning, as in UTF-16; convert the file",
        ),
    ],
)
def test_a_file_that_is_no_table_is_one_sentence(read, content, reason):
    with pytest.raises(UserError, match=reason):
        read(content)


def test_turns_inside_a_cell_are_turns(tmp_path):
    for written in (json.dumps, str):
        file = tmp_path / "rows.csv"
        with file.open("w", newline="") as opened:
            writer = csv.writer(opened)
            writer.writerow(
                ["", "messages", "tools", "history"]
            )  # pandas leaves the row number's column without a name
            writer.writerow([0, written(MESSAGES), written([{"name": "add"}]), ""])
        (row,) = read_rows(Source(str(file)), "x")
        assert row.fields == {"index": "0", "messages": MESSAGES, "tools": written([{"name": "add"}]), "history": ""}
        item = parsed_row(row.fields)[1]
        assert (item.messages, item.kwargs["tools"]) == (MESSAGES, [{"name": "add"}])
        with file.open("w", newline="") as opened:
            csv.writer(opened).writerows([["chosen", "rejected"], [written(PROMPT + GOOD), written(PROMPT + BAD)]])
        (row,) = read_rows(Source(str(file)), "x")
        item = parsed_row(row.fields, pairs=True)[1]
        assert (item.prompt, item.chosen, item.rejected) == (PROMPT, GOOD, BAD)


def test_a_cell_that_only_looks_like_json_stays_text(read):
    answers = ["[1, 2]", "{x}", "[", '{"a": 1}', "[not json"]
    lines = "".join('q,"' + answer.replace('"', '""') + '"\n' for answer in answers)
    assert [row.content["completion"] for row in read(f"prompt,completion\n{lines}")] == answers


def test_one_column_of_texts_is_a_table_too_and_an_empty_file_has_no_rows(read):
    assert contents(read("text\nOnce\nupon\n")) == [{"text": "Once"}, {"text": "upon"}]
    assert read("") == [] == read("prompt,completion\n")


def test_a_cell_of_json_with_a_key_twice_is_text(tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text('prompt,completion\n"{""a"": 1, ""a"": 2}","[{""role"": ""user"", ""role"": ""x""}]"\n')
    (row,) = csv_rows(file, "x", ",")
    assert row.content == {"prompt": '{"a": 1, "a": 2}', "completion": '[{"role": "user", "role": "x"}]'}


def test_the_word_of_tables_for_nothing_is_no_text(read):
    rows = read("prompt,completion\nq,nan\nNaN,a\nq,<NA>\nq,nan is a word\n")
    assert contents(rows) == [
        {"prompt": "q"},
        {"completion": "a"},
        {"prompt": "q"},
        {"prompt": "q", "completion": "nan is a word"},
    ]


@pytest.mark.parametrize("first", ["prompt{}completion", '"prompt"{}"completion"'])
@pytest.mark.parametrize(("name", "separator"), [("r.csv", ";"), ("r.csv", "\t"), ("r.tsv", ";")])
def test_what_separates_the_names_separates_the_columns(read, name, separator, first):
    text = first.format(separator) + f'\r\na, b{separator}"c{separator} d"\r\n'
    assert contents(read(text, name)) == [{"prompt": "a, b", "completion": f"c{separator} d"}]


def test_one_column_may_hold_other_separators(read):
    assert contents(read("text\na; b\nc\n")) == [{"text": "a; b"}, {"text": "c"}]
