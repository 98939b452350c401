"""Answers and questions that show nothing are refused, whatever characters they hide."""

import pytest
from data_helpers import parsed_row

from apo_soup.data.sources.rows import RowError


@pytest.mark.parametrize("blank", ["", " \n", "\u200b", "\ufeff", "\u2060 \u200d", "\u00a0\u3000"])
def test_turns_that_show_nothing_are_refused(blank):
    for row, pairs, reason in (
        ({"prompt": "a", "completion": blank}, False, "expected an answer, got an assistant turn that is empty"),
        ({"prompt": blank, "completion": "a"}, False, "expected words, got a user turn that is empty; fill it"),
        ({"prompt": "a", "chosen": blank, "rejected": "b"}, True, "expected an answer, got an assistant turn that is"),
        ({"prompt": blank, "chosen": "a", "rejected": "b"}, True, "expected words, got a user turn that is empty"),
        ({"instruction": blank, "input": blank, "output": "a"}, False, "expected words, got a user turn that is empty"),
    ):
        with pytest.raises(RowError, match=reason):
            parsed_row(row, pairs)
    item = parsed_row({"instruction": blank, "input": "1 + 2?", "output": "3"})[1]
    assert item.messages[0]["content"] == "1 + 2?"


def test_words_between_invisible_characters_stay_as_they_are():
    assert parsed_row({"prompt": "\u200ba", "completion": "b\ufeff"})[1].messages[1]["content"] == "b\ufeff"
