"""Pairs whose answers or prompts say nothing, or nothing different, are refused with the reason."""

import json

import pytest
from data_helpers import parsed_row, prepared
from helpers import preference

from apo_soup.data.sources.rows import RowError

ALIKE = {
    "spaces": ("a b c", "a  b\nc"),
    "a space at the end": ("abc", "abc \n"),
    "no width": ("abc", "a\u200bbc"),
    "no break": ("a b", "a\u00a0b"),
    "byte order": ("abc", "\ufeffabc"),
    "variation": ("ok \u2764", "ok \u2764\ufe0f"),
    "soft hyphen": ("co-op", "co\u00ad-op"),
    "joiner": ("abc", "ab\u034fc"),
    "tag": ("abc", "abc\U000e0041"),
    "variation supplement": ("abc", "abc\U000e0100"),
}


@pytest.mark.parametrize("name", ALIKE)
def test_answers_that_read_alike_are_no_pair(name):
    chosen, rejected = ALIKE[name]
    with pytest.raises(RowError, match="two that differ in spaces or invisible characters alone; leave the row out"):
        parsed_row({"prompt": "Q", "chosen": chosen, "rejected": rejected}, True)


@pytest.mark.parametrize("unseen", ["\ufe00", "\u034f", "\U000e0100", "\u061c\u180e", "\ufff9"])
def test_turns_of_what_has_no_shape_are_empty(unseen):
    with pytest.raises(RowError, match="expected words, got a user turn that is empty"):
        parsed_row({"prompt": unseen, "chosen": "a", "rejected": "b"}, True)
    with pytest.raises(RowError, match="expected an answer, got an assistant turn that is empty"):
        parsed_row({"prompt": "Q", "chosen": unseen, "rejected": "b"}, True)


def test_answers_of_control_tokens_alone_are_refused_where_such_tokens_are_allowed(training_recipe):
    rows = [preference(f"Q{n}", f"good {n}", f"bad {n}") for n in range(8)]
    rows += [preference("Q", answer, "bad") for answer in ("<|im_end|><|im_end|>", "<|im_start|>", "<|endoftext|> ")]
    rows += [preference("Q", "<|im_start|>well", "bad")]
    path = training_recipe(rows, name="apo")
    folder, _, stats = prepared(path, "--special_tokens_in_text", "allow", "--max_reject_share", "0.5")
    assert (stats["total"]["kept"], stats["total"]["rejected"]) == (9, 3)
    reasons = {json.loads(line)["reason"] for line in (folder / "rejects.jsonl").read_text().splitlines()}
    assert reasons == {"field chosen: expected words, got control tokens alone; leave the pair out"}
