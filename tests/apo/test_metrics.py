"""What is logged of a row of pairs, by hand."""

import pytest
import torch

from apo.metrics import SUM_NAMES, mean_metrics, pair_sums


def test_figures_of_a_row_by_hand():
    """Two pairs, beta 0.5: log-ratios 2 and -1, and 1 and 3, so rewards 1 and -0.5, and 0.5 and 1.5."""
    reference = torch.tensor([[-4.0, -6.0], [-10.0, -2.0]])
    logps = reference + torch.tensor([[2.0, -1.0], [1.0, 3.0]])
    lengths = torch.tensor([[4, 8], [2, 2]])
    sums = pair_sums(torch.tensor([0.25, 0.75]), logps, reference, lengths, 0.5, truncated=1, positions=30)
    metrics = mean_metrics(dict(zip(SUM_NAMES, sums.tolist(), strict=True)))
    assert metrics == pytest.approx(
        {
            "loss": 0.5,
            "rewards/chosen": 0.75,
            "rewards/rejected": 0.5,
            "rewards/margins": 0.25,
            "rewards/accuracies": 0.5,
            "logps/chosen": -5.5,
            "logps/rejected": -3.0,
            "logps_per_token/chosen": -11 / 6,
            "logps_per_token/rejected": -0.6,
            "logratios_per_token/chosen": 0.5,
            "lengths/chosen": 3.0,
            "lengths/rejected": 5.0,
            "truncated_share": 0.5,
        }
    )
    assert dict(zip(SUM_NAMES, sums.tolist(), strict=True))["positions"] == 30
