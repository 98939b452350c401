"""The losses of preference training, as pure functions of log-ratios.

The log-ratio of an answer y to a prompt x is log p(y|x) - log p_ref(y|x), summed over the answer's tokens; p is the
model that is trained and p_ref the reference, the model before training. Every loss takes the log-ratios of the chosen
and of the rejected answers, `[N]` each for N pairs, and beta, and returns the loss of each pair, `[N]`.

To add one: write it here, enter it in `PAIR_LOSSES`, and give numbers worked by hand to `tests/apo/test_losses.py`.
`tests/apo/test_trainer_steps.py` then holds its steps to the stock trainer's.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F

# (log-ratios of chosen [N], log-ratios of rejected [N], beta) -> losses [N]
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


# By the name that a recipe gives as `loss_type`, which is TRL's.
PAIR_LOSSES: dict[str, PairLoss] = {"apo_zero": apo_zero, "apo_down": apo_down, "sigmoid": sigmoid}
