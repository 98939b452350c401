"""The layout of packed pairs."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apo.attention_mask import dense_mask
from apo.packed_pairs import PairIds, pack_pairs, position_count

PART = st.lists(st.integers(5, 200), min_size=1, max_size=12)


def test_two_pairs_by_hand():
    """The last token of a prompt stands at the head of each answer, and position ids begin again with every pair."""
    row = pack_pairs([PairIds([11, 12, 13], [21, 22], [31]), PairIds([14], [23], [32, 33])])
    assert row.input_ids.tolist() == [11, 12, 13, 21, 22, 13, 31, 14, 23, 14, 32, 33]
    assert row.position_ids.tolist() == [0, 1, 2, 3, 4, 2, 3, 0, 1, 0, 1, 2]
    assert row.pair_index.tolist() == [0] * 7 + [1] * 5
    assert row.branch.tolist() == [0, 0, 1, 1, 1, 2, 2, 1, 1, 2, 2, 2]
    assert row.scored_positions.tolist() == [2, 3, 5, 7, 9, 10]
    assert row.targets.tolist() == [21, 22, 31, 23, 32, 33]
    assert row.answer_index.tolist() == [0, 0, 1, 2, 3, 3]
    assert row.pair_count == 2
    assert row.answer_sums(torch.arange(6.0)).tolist() == [[1.0, 2.0], [3.0, 9.0]]


@given(st.lists(st.tuples(PART, PART, PART), min_size=1, max_size=4))
@settings(max_examples=60)
def test_a_row_holds_every_token_where_it_belongs(pairs):
    row = pack_pairs(pairs)
    assert len(row.input_ids) == sum(position_count(*map(len, pair)) for pair in pairs)
    seen = dense_mask(row)
    for number, (prompt, *answers) in enumerate(pairs):
        for side, answer in enumerate(answers):
            scored = (row.answer_index == 2 * number + side).nonzero()[:, 0]
            assert row.targets[scored].tolist() == answer
            for step, position in enumerate(row.scored_positions[scored].tolist()):
                attended = seen[position].nonzero()[:, 0]
                whole = [*prompt, *answer]
                assert row.input_ids[attended].tolist() == whole[: len(prompt) + step], (
                    "it sees its own sequence so far"
                )
                assert row.position_ids[attended].tolist() == list(range(len(prompt) + step))
