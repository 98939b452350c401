"""The attention mask of packed pairs, by hand and in FlexAttention's form."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apo.attention_mask import block_mask, dense_mask, may_attend
from apo.packed_pairs import PairIds, pack_pairs

PART = st.lists(st.integers(5, 200), min_size=1, max_size=12)


def test_the_mask_of_two_pairs_by_hand():
    """Rows are queries: the prompt's 11 12, then 13 with the chosen 21, then 13 with the rejected 31; another pair."""
    row = pack_pairs([PairIds([11, 12, 13], [21], [31]), PairIds([14], [22], [32])])
    expected = """
        x.........
        xx........
        xxx.......
        xxxx......
        xx..x.....
        xx..xx....
        ......x...
        ......xx..
        ........x.
        ........xx
    """
    drawn = ["".join("x" if seen else "." for seen in query) for query in dense_mask(row).tolist()]
    assert drawn == expected.split()


@given(st.lists(st.tuples(PART, PART, PART), min_size=1, max_size=30))
@settings(max_examples=15)
def test_a_block_mask_made_in_bands_is_the_one_made_at_once(pairs):
    from torch.nn.attention.flex_attention import create_block_mask

    row = pack_pairs(pairs)
    size = len(row.input_ids)
    ours = block_mask(row)
    whole = create_block_mask(lambda b, h, q, k: may_attend(row, q, k), None, None, size, size, device="cpu")
    assert ours.shape == whole.shape
    assert torch.equal(ours.to_dense(), whole.to_dense())
    for name in ("kv_num_blocks", "full_kv_num_blocks"):
        assert torch.equal(getattr(ours, name).flatten(), getattr(whole, name).flatten()), name
