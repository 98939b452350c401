"""What a row asks, and what it takes for right."""

import pytest

from apo_soup.data.sources.rows import RowError
from apo_soup.errors import UserError
from apo_soup.evals.answers import question_messages, reference_text
from apo_soup.evals.metrics import ItemRow
from apo_soup.evals.models_to_evaluate import parse_mix

USER, ANSWER = {"role": "user", "content": "q"}, {"role": "assistant", "content": "The secret is 7."}


def test_a_question_never_holds_its_own_answer():
    """Rows of training end with it, and a model would be shown what it is asked."""
    assert question_messages(ItemRow({"messages": [USER, ANSWER, USER, ANSWER]}), "messages") == [USER, ANSWER, USER]
    assert question_messages(ItemRow({"messages": "q"}), "messages") == [USER]
    with pytest.raises(RowError, match="expected text, or messages of which the last has content"):
        question_messages(ItemRow({"messages": [ANSWER]}), "messages")


@pytest.mark.parametrize("told", [["4", "5"], {"value": 4}, True])
def test_what_is_neither_text_nor_a_number_is_no_reference(told):
    row = ItemRow({"answer": told}, "rows.jsonl:1")
    with pytest.raises(
        RowError, match=r"rows\.jsonl:1: field answer: expected text or a number, got .*; correct the row"
    ):
        reference_text(row, "answer", "exact")
    assert reference_text(row, "answer", "own.module:judge") == str(told)
    assert reference_text(ItemRow({"answer": 4.5}), "answer", "number") == "4.5"


@pytest.mark.parametrize("weights", ["a=1,b=1", "a=nan,b=1", "a=inf,b=-inf", "a=0.5,b=0.4"])
def test_weights_of_a_mix_sum_to_one(weights):
    with pytest.raises(UserError, match="--mix: expected weights that sum to 1, for another sum scales the model, got"):
        parse_mix(f"half:{weights}")
    assert len(parse_mix("half:a=1.5,b=-0.5").parts) == 2
