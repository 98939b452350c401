"""What a plan says of a packed training, in numbers worked by hand."""

from pathlib import Path

import pytest

from apo_soup.plan.row_counts import SplitCounts
from apo_soup.plan.stage_plan import packed_told

# The 48 conversations of docs/results.md in rows of 1 024.
GSM8K = SplitCounts(
    rows=48, tokens=13_213, trained=5_358, sequences=13, longest=1_024, most_computed=1_024, squares=4.0e6, held_out=0,
    folder_bytes=0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("batch", "at_once", "told"),
    [
        (
            4,
            1,
            "packed, a step has 1,649 trained tokens of 14.8 documents, 3.7 a row; without packing a batch of 4 takes "
            "12 steps an epoch, packed a `global_batch_size` of 1 takes 13",
        ),
        (1, 1, "packed, a step has 412 trained tokens of 3.7 documents, 3.7 a row"),
        # Eight processes take eight rows at least; all rows together are one step.
        (8, 8, "packed, a step has 3,297 trained tokens of 29.5 documents, 3.7 a row"),
        (
            128,
            8,
            "packed, a step has 5,358 trained tokens of 48.0 documents, 3.7 a row; without packing a batch of 128 "
            "takes 1 steps an epoch, packed a `global_batch_size` of 32 takes 1",
        ),
    ],
)
def test_a_packed_step_stands_beside_the_unpacked_one(batch, at_once, told):
    assert packed_told(Path("sft.yaml"), batch, at_once, GSM8K) == f"sft.yaml: {told}"
