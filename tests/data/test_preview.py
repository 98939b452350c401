"""The preview of supervised rows and of pairs."""

import json
import re

import pytest
from data_helpers import ROWS, prepared
from helpers import chat, preference
from programs import run_ok

from apo_soup.config.load import load
from apo_soup.data.preview import preview_mixture, side_by_side
from apo_soup.data.shown_rows import pair_in_pieces
from apo_soup.errors import UserError


def test_preview_shows_rows_with_the_trained_tokens_marked(training_recipe):
    output = run_ok("-m", "apo_soup", "preview", "--config", training_recipe(ROWS), "--rows", "2")
    assert "<|im_start|>user\nWhat is 0 + 0?<|im_end|>\n" in output
    assert "<think>\n\n</think>\n«It is 0<|im_end|>»" in output
    assert output.count("--- ") == 2
    pairs = [preference("Why?", "because it is good", "because it is bad")]
    output = run_ok("-m", "apo_soup", "preview", "--config", training_recipe(pairs, name="apo"))
    assert "«because it is»" in output
    line = next(line for line in output.splitlines() if "bad<|im_end|>" in line)
    assert line.split(" | ")[0].strip() == "good<|im_end|>"


def test_a_source_without_rows_is_told(training_recipe, tokenizer):
    path = training_recipe([])
    with pytest.raises(UserError, match=r"rows\.jsonl: expected at least one row, got none; write its rows first"):
        preview_mixture(load(path, "sft"), tokenizer, 3)
    path = training_recipe(ROWS[:3])
    with pytest.raises(UserError, match=r"datasets\.0: source .*: expected a row to train on, got none that is drawn"):
        preview_mixture(load(path, "sft", ["--dataset_mixture.datasets.0.weight", "0.01"]), tokenizer, 3)


def test_what_is_read_otherwise_or_not_at_all_is_shown_below_its_row(training_recipe, tokenizer, capsys):
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "That."}]
    path = training_recipe([*ROWS[:1], {"conversations": turns, "score": 3, "enable_thinking": False}])
    preview_mixture(load(path, "sft"), tokenizer, 3)
    assert (
        "[a row of format sharegpt was read as such, in a source whose first rows are of format messages]\n"
        "[field score is not used]\n"
    ) in capsys.readouterr().out


def test_side_by_side_wraps_both_answers(tokenizer):
    ids = {
        k: tokenizer(v, add_special_tokens=False).input_ids
        for k, v in {"prompt_ids": "Q", "chosen_ids": "a b " * 60, "rejected_ids": "c"}.items()
    }
    lines = side_by_side(pair_in_pieces(ids, tokenizer)).splitlines()
    assert all(" | " in line for line in lines[1:])
    assert "".join(line.split(" | ")[0].strip() for line in lines[2:]).replace(" ", "") == "ab" * 60


def test_preview_tells_what_overflow_does(training_recipe):
    long = chat("Q", "so " * 400, False)
    for overflow, told in (("drop", "dropped: "), ("split", "[split into "), ("truncate", "beyond max_length 64]")):
        path = training_recipe([long, chat("Q", "A", False)], max_length=64, overflow=overflow)
        assert told in run_ok("-m", "apo_soup", "preview", "--config", path), overflow


def test_preview_estimates_what_the_mixture_will_be(training_recipe, write_rows, tmp_path):
    """Rows of the same length, so that the estimate is exact; the second source is one JSON value."""
    many = [chat(f"What is {n}?", "so it goes on", False) for n in range(300)]
    sources = [{"id": str(write_rows("short.jsonl", many)), "weight": 0.5}]
    (tmp_path / "long.json").write_text(json.dumps([chat("Q", "so it goes on " * 5, False)] * 50))
    sources.append({"id": str(tmp_path / "long.json")})
    path = training_recipe(mixture={"datasets": sources})
    output = run_ok("-m", "apo_soup", "preview", "--config", path, "--rows", "1")
    assert output.count("\n--- /") == 2
    assert "=== the mixture, estimated from at most 200 rows of each source" in output
    told = [line.split()[1:] for line in output.splitlines()[-2:]]
    stats = prepared(path)[2]
    for cells, share in zip(told, stats["shares"], strict=True):
        percents = (f"{share['rows_share']:.1%}", f"{share['trained_share']:.1%}")
        assert (cells[1], cells[3]) == percents
    shares = {"weight": None, "token_share": 0.5}
    sources = [{k: v for k, v in (source | shares).items() if v is not None} for source in sources]
    output = run_ok("-m", "apo_soup", "preview", "--config", training_recipe(mixture={"datasets": sources}))
    assert "format messages, token_share 0.5" in output
    assert [line.split()[-1] for line in output.splitlines()[-2:]] == ["50.0%", "50.0%"]


def test_escaped_control_tokens_are_shown_as_the_plain_text_that_they_become(training_recipe):
    path = training_recipe([chat("Say <|im_end|> once", "fine<|im_end|>", False)])
    refused = run_ok("-m", "apo_soup", "preview", "--config", path)
    assert "rejected: field messages[0].content: expected text, got the control token <|im_end|>" in refused
    shown = run_ok("-m", "apo_soup", "preview", "--config", path, "--special_tokens_in_text", "escape")
    allowed = run_ok("-m", "apo_soup", "preview", "--config", path, "--special_tokens_in_text", "allow")
    assert "Say <|im_end|> once" in shown
    assert "«fine<|im_end|>»" in shown
    assert "[an answer's text ended with an end of turn, which was taken off]" in shown
    assert "[control token <|im_end|> stands in a text, and is plain text]" in shown
    counts = [int(re.search(r"\[\d+ of (\d+) tokens trained\]", text)[1]) for text in (shown, allowed)]
    assert counts[0] > counts[1]
