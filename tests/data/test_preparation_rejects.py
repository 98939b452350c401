"""Rows that cannot be used are listed with the reason, and too many of them stop the run."""

import json

import pytest
from data_helpers import MESSAGES, ROWS, prepared
from helpers import chat

from apo_soup.errors import UserError
from apo_soup.progress import QUIET, say


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (
            b'{"messages": [\n',
            "expected a JSON object, got a line that is not valid JSON at column 1: Expecting value; write one",
        ),
        (
            b'{"messages": "\xff\xfe"}\n',
            "expected UTF-8, got another encoding at byte 14 of the line; convert the file",
        ),
        (b"[1]\n", "expected a JSON object, got list"),
        (
            json.dumps(chat("Q", "<think>\nno end", True)).encode() + b"\n",
            "expected </think>, got a think block that is never closed",
        ),
        (json.dumps(chat("Q", "")).encode() + b"\n", "expected an answer, got an assistant turn that is empty"),
        (
            json.dumps({"messages": [{"role": "tool", "content": "3"}, *MESSAGES]}).encode() + b"\n",
            "expected tool behind assistant or tool, got one that comes first",
        ),
    ],
)
def test_a_bad_row_is_listed_and_too_many_stop_the_run(training_recipe, line, reason, capsys, monkeypatch):
    path = training_recipe(ROWS)
    rows = path.parent / "rows.jsonl"
    rows.write_bytes(rows.read_bytes() + line)
    with pytest.raises(
        UserError, match=r"max_reject_share: expected at most 0\.01 of the rows rejected, got 1 of 82; .*the first is"
    ):
        prepared(path)
    beside = path.parent / "run" / "prepared" / "sft-rejects.jsonl"
    reject = json.loads(beside.read_text())
    assert reject["row"] == f"{rows}:82"
    assert reason in reject["reason"]
    monkeypatch.setenv(QUIET, "1")
    capsys.readouterr()
    _, _, stats = prepared(path, "--max_reject_share", "0.02", say=say)
    assert capsys.readouterr().out == f"warning: 1 rejected rows, with reasons, in {beside}\n"
    assert (stats["total"]["read"], stats["total"]["kept"], stats["total"]["rejected"]) == (82, 81, 1)


ODD_LINES = {
    "a lone surrogate": json.dumps(chat("\ud800", "A", False)),
    "got a row with \ud800": json.dumps({"\ud800": 1}),
    "expected a list of tools": json.dumps({**chat("Q", "A"), "tools": {"name": "f"}}),
    "never closed": json.dumps(chat("Q", "Well: <think>\nhm")),
    "expected JSON that can be read, got Exceeds the limit (4300 digits)": '{"messages": ' + "9" * 5000 + "}",
    "custom_instructions: expected text": json.dumps(
        {**chat("Q", "A"), "chat_template_kwargs": {"custom_instructions": 5}}
    ),
}


@pytest.mark.parametrize("reason", ODD_LINES)
def test_odd_rows_are_rejected_and_not_a_traceback(training_recipe, reason):
    path = training_recipe(ROWS)
    with (path.parent / "rows.jsonl").open("a") as file:
        file.write(ODD_LINES[reason] + "\n")
    folder, _, _ = prepared(path, "--max_reject_share", "0.1")
    assert reason in json.loads((folder / "rejects.jsonl").read_text())["reason"]


def test_a_plain_text_with_half_a_character_is_rejected(training_recipe):
    rows = [{"text": "bad \ud800 x"}, *({"text": f"good {n}"} for n in range(9))]
    folder, _, _ = prepared(training_recipe(rows), "--max_reject_share", "0.1")
    assert "a lone surrogate) at character 4" in json.loads((folder / "rejects.jsonl").read_text())["reason"]


def test_faults_behind_the_rows_of_the_mask_check_are_rejected(training_recipe):
    """The mask check reads the first 200 rows; what it would stop at later is listed row by row."""
    good = [chat(f"What is {n} + 1?", f"<think>\nso {n}\n</think>\n{n + 1}", True) for n in range(210)]
    empty = {
        "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "", "reasoning_content": "hm"}]
    }
    empty["chat_template_kwargs"] = {"enable_thinking": False}
    bad = {
        "expected reasoning in a think row, got none": chat("Q", "Just so", True),
        "expected no reasoning in a no-think row": chat("Q", "Sure.\n<think>\nhm\n</think>\n4", False),
        "expected reasoning_content in what the chat template writes": empty,
    }
    folder, _, stats = prepared(training_recipe([*good, *bad.values()]), "--max_reject_share", "0.1")
    found = [json.loads(line)["reason"] for line in (folder / "rejects.jsonl").read_text().splitlines()]
    assert len(found) == len(bad)
    assert all(reason.startswith(told) for reason, told in zip(found, bad, strict=True))
    assert stats["total"]["kept"] == 210
