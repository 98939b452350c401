"""The mask check stops the launch and shows the row; it decodes what is trained."""

import pytest
from data_helpers import ROWS, trained_turns
from helpers import chat
from programs import program

from apo_soup.data.checks.mask_check import decoded_fault


@pytest.mark.parametrize(
    ("decoded", "fault"),
    [
        ("It is 4<|im_end|>", None),
        ("It  is 4 <|im_end|>", None),
        (" is 4<|im_end|>", "expected tokens that say what an answer says, got others"),
        ("It is [UNK]<|im_end|>", "expected tokens that say what an answer says, got others"),
        ("It is 4", "expected <|im_end|> among what is trained, as it ends an answer, got tokens without it"),
        ("assistant It is 4<|im_end|>", "expected the tokens of an answer alone to be trained, got others as well"),
    ],
)
def test_tokens_are_decoded_and_compared_with_the_answer(use, decoded, fault):
    found = decoded_fault(trained_turns(use(None), chat("2 + 2?", "It is 4", False)), [decoded])
    assert (found is None) == (fault is None)
    assert (found or "").startswith(fault or "")


def test_composed_characters_are_the_same_however_they_are_written(use):
    row = trained_turns(use(None), chat("Q", "cafe\u0301", False))
    assert decoded_fault(row, ["caf\u00e9<|im_end|>"]) is None


def test_the_mask_check_stops_a_source_and_shows_the_row(training_recipe):
    path = training_recipe([*ROWS, chat("Q?", "no thought here", True)])
    result = program("-m", "apo_soup", "prepare", "--config", path)
    assert result.returncode == 2
    assert "rows.jsonl:82: mask check: expected reasoning in a think row, got none; give" in result.stderr
    assert "no thought here" in result.stderr
    assert not list((path.parent / "run" / "prepared").glob("sft-*"))


def test_whole_rows_are_held_to_their_mode_too(training_recipe):
    rows = [chat("Q?", "A", False)] * 3 + [chat("Q?", "<think>\nso\n</think>\nA", False)]
    result = program("-m", "apo_soup", "prepare", "--config", training_recipe(rows, assistant_only_loss=False))
    assert result.returncode == 2
    assert "expected no reasoning in a no-think row, got <think> in an answer" in result.stderr
