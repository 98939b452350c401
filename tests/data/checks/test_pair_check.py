"""The mask check of pairs names each fault."""

import pytest
from helpers import preference

from apo_soup.data.checks.pair_check import CheckedPair, check_pair
from apo_soup.data.conversations.conversation import parse_pair
from apo_soup.errors import UserError


def test_the_mask_check_looks_at_pairs(tokenizer):
    end = tokenizer.eos_token_id

    def check(texts, ids, think=False):
        row = preference("Q", "yes", "no", think)
        check_pair(CheckedPair("s", "f:1", parse_pair(row, {}), texts), ids, tokenizer)

    texts = ["Q:", "Q: yes", "Q: no"]
    check(texts, ([5], [6, end], [7, end]))
    faults = [
        (texts, [7], False, "the rejected answer does not end with the end-of-turn token"),
        (["Q:", "A: yes", "Q: no"], [7, end], False, r"the prompt's text is not how prompt \+ chosen begins"),
        (["Q:", "Q:<think>\n\n</think>\nyes", "Q: no"], [7, end], False, "the chosen answer trains on an empty think"),
        (["Q:", "Q:<think>\nhm\n</think>\nyes", "Q: no"], [7, end], False, "chosen answer of a no-think pair has"),
        (texts, [7, end], True, "the chosen answer of a think pair has no reasoning"),
    ]
    for faulty, rejected, think, reason in faults:
        with pytest.raises(UserError, match=reason):
            check(faulty, ([5], [6, end], rejected), think)
