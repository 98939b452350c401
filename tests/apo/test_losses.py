"""The losses against numbers worked by hand."""

import pytest
import torch

from apo.losses import PAIR_LOSSES, LogRatios, LossOptions, weighted_loss

PAIRS = LogRatios(
    chosen=torch.tensor([0.0, 10.0, 1.0]),
    rejected=torch.tensor([0.0, -10.0, -1.0]),
    chosen_tokens=torch.tensor([2.0, 2.0, 2.0]),
    rejected_tokens=torch.tensor([4.0, 4.0, 4.0]),
)
OPTIONS = LossOptions(beta=0.1, label_smoothing=0.1)
EXPECTED = {
    "apo_zero": [1.0, 0.537883, 0.950042],
    "apo_down": [1.0, 0.850262, 0.975145],
    "sigmoid": [0.693147, 0.126928, 0.598139],
    "sigmoid_norm": [0.693147, 0.386871, 0.656350],
    "hinge": [1.0, 0.0, 0.8],
    "ipo": [25.0, 6.25, 18.0625],
    "exo_pair": [0.510826, 0.001942, 0.406304],
    "nca_pair": [1.386294, 1.126523, 1.338793],
    "robust": [0.693147, -0.123072, 0.573139],
    "bco_pair": [1.386294, 0.626523, 1.288793],
    "sppo_hard": [50.0, 50.0, 32.0],
    "discopop": [0.846574, 0.135335, 0.814763],
}


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_losses_equal_numbers_worked_by_hand(name):
    """beta 0.1, label smoothing 0.1; log-ratios (0, 0), (10, -10), and (1, -1); answers of 2 and 4 tokens:

    s(1) = 0.731059, s(2) = 0.880797, s(0.1) = 0.524979, s(0.2) = 0.549834. For (1, -1):
    apo_zero 1 - 0.524979 + 0.475021 = 0.950042; apo_down 0.524979 + 1 - 0.549834 = 0.975145; sigmoid -log 0.549834;
    sigmoid_norm -log s(0.1 * (1/2 + 1/4)); hinge 1 - 0.2; ipo (0.75 - 5)^2; sppo_hard (1 - 5)^2 + (-1 + 5)^2;
    nca_pair 0.644397 + 0.5 * 0.744397 + 0.5 * 0.644397; bco_pair 2 * 0.644397; robust (-0.9 * -0.598139 + 0.1 *
    -0.798139) / 0.8; exo_pair 0.549834 * (-0.598139 + 0.105361) + 0.450166 * (-0.798139 + 2.302585); discopop with
    s(0.2 / 0.05) = 0.982014: 0.598139 * 0.017986 + 0.818731 * 0.982014.
    """
    torch.testing.assert_close(PAIR_LOSSES[name](PAIRS, OPTIONS), torch.tensor(EXPECTED[name]), atol=3e-6, rtol=0)


def test_several_losses_are_summed_by_their_weights():
    summed = weighted_loss(["hinge", "sppo_hard"], [0.5, 0.1])(PAIRS, OPTIONS)
    torch.testing.assert_close(summed, torch.tensor([5.5, 5.0, 3.6]))
