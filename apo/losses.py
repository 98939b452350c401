"""Preference losses as pure functions of log-ratios.

A log-ratio is log p(y|x) - log p_ref(y|x), summed over the tokens of an answer. All functions take two tensors of one
shape (a value a pair) and beta, and return the loss of each pair in that shape.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

PairLoss = Callable[[torch.Tensor, torch.Tensor, float], torch.Tensor]


def apo_zero(chosen: torch.Tensor, rejected: torch.Tensor, beta: float) -> torch.Tensor:
    """1 - sigmoid(beta * chosen) + sigmoid(beta * rejected); equation 7 of D'Oosterlinck et al. 2024 (2408.06266).

    At the reference both log-ratios are 0 and the loss is 1. With beta 0.1, chosen 10 and rejected -10 it is
    1 - 0.731059 + 0.268941 = 0.537883.
    """
    return 1 - torch.sigmoid(beta * chosen) + torch.sigmoid(beta * rejected)


def apo_down(chosen: torch.Tensor, rejected: torch.Tensor, beta: float) -> torch.Tensor:
    """sigmoid(beta * chosen) + 1 - sigmoid(beta * (chosen - rejected)); equation 8 of the same paper.

    At the reference it is 1. With beta 0.1, chosen 10 and rejected -10 it is 0.731059 + 1 - 0.880797 = 0.850262.
    """
    return torch.sigmoid(beta * chosen) + 1 - torch.sigmoid(beta * (chosen - rejected))


def sigmoid(chosen: torch.Tensor, rejected: torch.Tensor, beta: float) -> torch.Tensor:
    """-log sigmoid(beta * (chosen - rejected)); equation 7 of Rafailov et al. 2023 (DPO, 2305.18290).

    At the reference it is log 2. With beta 0.1, chosen 10 and rejected -10 it is 0.126928.
    """
    return -F.logsigmoid(beta * (chosen - rejected))


LOSSES: dict[str, PairLoss] = {"apo_zero": apo_zero, "apo_down": apo_down, "sigmoid": sigmoid}
