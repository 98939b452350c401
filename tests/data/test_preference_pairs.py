"""Preference rows: the prompt that two conversations share, as turns and as tokens."""

import pytest
from helpers import chat

from apo_soup.data.conversation import RowError, pair
from apo_soup.data.encode import pair_ids


def test_the_prompt_may_be_implied_by_two_conversations():
    shared = chat("Q1", "A1")["messages"] + [{"role": "user", "content": "Q2"}]
    row = {
        "prompt": "Q1",
        "chosen": [*shared, {"role": "assistant", "content": "good"}],
        "rejected": [*shared, {"role": "assistant", "content": "bad"}],
    }
    found = pair(row, {})
    assert found.prompt == shared
    assert found.chosen == [{"role": "assistant", "content": "good"}]
    assert found.rejected == [{"role": "assistant", "content": "bad"}]


def test_tokens_that_do_not_begin_with_the_prompts_are_refused():
    with pytest.raises(RowError, match="not a prefix of prompt \\+ rejected"):
        pair_ids([[5, 6], [5, 6, 7], [5, 9, 7]], end_of_turn=1)
