"""The losses against numbers worked by hand."""

import pytest
import torch

from apo.losses import PAIR_LOSSES


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("apo_zero", [1.0, 0.537883, 0.950042]),
        ("apo_down", [1.0, 0.850262, 0.975145]),
        ("sigmoid", [0.693147, 0.126928, 0.598139]),
    ],
)
def test_losses_equal_numbers_worked_by_hand(name, expected):
    """beta 0.1; log-ratios (0, 0), (10, -10), and (1, -1):

    s(1) = 0.731059, s(2) = 0.880797, s(0.1) = 0.524979, s(0.2) = 0.549834. For (1, -1):
    apo_zero 1 - 0.524979 + 0.475021 = 0.950042; apo_down 0.524979 + 1 - 0.549834 = 0.975145; sigmoid -log 0.549834.
    """
    chosen, rejected = torch.tensor([0.0, 10.0, 1.0]), torch.tensor([0.0, -10.0, -1.0])
    torch.testing.assert_close(PAIR_LOSSES[name](chosen, rejected, 0.1), torch.tensor(expected), atol=2e-6, rtol=0)
