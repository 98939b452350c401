"""The losses of preference training, as pure functions of log-ratios.

The log-ratio of an answer y to a prompt x is log p(y|x) - log p_ref(y|x), summed over the answer's tokens; p is the
model that is trained and p_ref the reference, the model before training. Every loss takes those of N pairs and returns
the loss of each pair, `[N]`. They are TRL's, by its names; where a paper's equation and TRL's differ, TRL's is meant.

To add one: write it here, enter it in `PAIR_LOSSES`, and give numbers worked by hand to `tests/apo/test_losses.py`.
`tests/apo/test_trainer_steps.py` then holds its steps to the stock trainer's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class LogRatios:
    """What a loss is a function of, for N pairs.

    Attributes:
        chosen: log-ratios of the chosen answers, `[N]`.
        rejected: those of the rejected answers, `[N]`.
        chosen_tokens: how many tokens the chosen answers have, `[N]`.
        rejected_tokens: the same for the rejected ones.
    """

    chosen: Tensor
    rejected: Tensor
    chosen_tokens: Tensor
    rejected_tokens: Tensor

    @property
    def margin(self) -> Tensor:
        """How much more the chosen answers have gained than the rejected ones, `[N]`."""
        return self.chosen - self.rejected

    @property
    def margin_a_token(self) -> Tensor:
        """The same of log-ratios a token, `[N]`."""
        return self.chosen / self.chosen_tokens.clamp(min=1) - self.rejected / self.rejected_tokens.clamp(min=1)


@dataclass(frozen=True)
class LossOptions:
    """Numbers of the recipe: `beta`, the share of pairs that are taken to be swapped, and discopop's temperature."""

    beta: float
    label_smoothing: float = 0.0
    discopop_tau: float = 0.05


PairLoss = Callable[[LogRatios, LossOptions], Tensor]


def apo_zero(pairs: LogRatios, options: LossOptions) -> Tensor:
    """1 - sigmoid(beta * chosen) + sigmoid(beta * rejected), `[N]`.

    Equation 7 of D'Oosterlinck et al. 2024 (2408.06266).

    At the reference both log-ratios are 0 and the loss is 1. With beta 0.1, chosen 10 and rejected -10 it is
    1 - 0.731059 + 0.268941 = 0.537883.
    """
    return 1 - torch.sigmoid(options.beta * pairs.chosen) + torch.sigmoid(options.beta * pairs.rejected)


def apo_down(pairs: LogRatios, options: LossOptions) -> Tensor:
    """sigmoid(beta * chosen) + 1 - sigmoid(beta * (chosen - rejected)), `[N]`; equation 8 of the same paper.

    At the reference it is 1. With beta 0.1, chosen 10 and rejected -10 it is 0.731059 + 1 - 0.880797 = 0.850262.
    """
    return torch.sigmoid(options.beta * pairs.chosen) + 1 - torch.sigmoid(options.beta * pairs.margin)


def sigmoid(pairs: LogRatios, options: LossOptions) -> Tensor:
    """-log sigmoid(beta * (chosen - rejected)), `[N]`; equation 7 of Rafailov et al. 2023 (DPO, 2305.18290).

    At the reference it is log 2. With beta 0.1, chosen 10 and rejected -10 it is 0.126928.
    """
    return -F.logsigmoid(options.beta * pairs.margin)


def sigmoid_norm(pairs: LogRatios, options: LossOptions) -> Tensor:
    """`sigmoid` of log-ratios a token, `[N]`."""
    return -F.logsigmoid(options.beta * pairs.margin_a_token)


def hinge(pairs: LogRatios, options: LossOptions) -> Tensor:
    """max(0, 1 - beta * (chosen - rejected)), `[N]`; Zhao et al. 2023 (SLiC-HF, 2305.10425)."""
    return torch.relu(1 - options.beta * pairs.margin)


def ipo(pairs: LogRatios, options: LossOptions) -> Tensor:
    """(chosen - rejected - 1 / (2 * beta))^2 of log-ratios a token, `[N]`.

    Equation 17 of Azar et al. 2023 (2310.12036).
    """
    return (pairs.margin_a_token - 1 / (2 * options.beta)) ** 2


def exo_pair(pairs: LogRatios, options: LossOptions) -> Tensor:
    """KL between the pair's odds under the model and smoothed labels, `[N]`.

    Equation 16 of Ji et al. 2024 (2402.00856).
    """
    smoothing = torch.tensor(options.label_smoothing, device=pairs.chosen.device)
    logits = options.beta * pairs.margin
    chosen = torch.sigmoid(logits) * (F.logsigmoid(logits) - torch.log1p(-smoothing))
    return chosen + torch.sigmoid(-logits) * (F.logsigmoid(-logits) - torch.log(smoothing))


def nca_pair(pairs: LogRatios, options: LossOptions) -> Tensor:
    """Noise contrastive alignment of a pair, `[N]`; Chen et al. 2024 (2402.05369), algorithm 1."""
    chosen, rejected = options.beta * pairs.chosen, options.beta * pairs.rejected
    return -F.logsigmoid(chosen) - 0.5 * F.logsigmoid(-chosen) - 0.5 * F.logsigmoid(-rejected)


def robust(pairs: LogRatios, options: LossOptions) -> Tensor:
    """`sigmoid` where a share of the labels is swapped, `[N]`; equation 12 of Chowdhury et al. 2024 (2403.00409)."""
    smoothing, logits = options.label_smoothing, options.beta * pairs.margin
    kept, swapped = (1 - smoothing) * F.logsigmoid(logits), smoothing * F.logsigmoid(-logits)
    return (swapped - kept) / (1 - 2 * smoothing)


def bco_pair(pairs: LogRatios, options: LossOptions) -> Tensor:
    """A binary classifier of answers, `[N]`; Jung et al. 2024 (2404.04656), without the shift of rewards, as in TRL."""
    return -F.logsigmoid(options.beta * pairs.chosen) - F.logsigmoid(-options.beta * pairs.rejected)


def sppo_hard(pairs: LogRatios, options: LossOptions) -> Tensor:
    """(chosen - 1 / (2 beta))^2 + (rejected + 1 / (2 beta))^2, `[N]`; Wu et al. 2024 (2405.00675), with hard labels."""
    half = 0.5 / options.beta
    return (pairs.chosen - half) ** 2 + (pairs.rejected + half) ** 2


def discopop(pairs: LogRatios, options: LossOptions) -> Tensor:
    """A blend of logistic and exponential loss, found by a search, `[N]`; equation 5 of Lu et al. 2024 (2406.08414)."""
    logits = options.beta * pairs.margin
    share = torch.sigmoid(logits / options.discopop_tau)
    return -F.logsigmoid(logits) * (1 - share) + torch.exp(-logits) * share


# By the name that a recipe gives as `loss_type`, which is TRL's.
PAIR_LOSSES: dict[str, PairLoss] = {
    "apo_zero": apo_zero,
    "apo_down": apo_down,
    "sigmoid": sigmoid,
    "sigmoid_norm": sigmoid_norm,
    "hinge": hinge,
    "ipo": ipo,
    "exo_pair": exo_pair,
    "nca_pair": nca_pair,
    "robust": robust,
    "bco_pair": bco_pair,
    "sppo_hard": sppo_hard,
    "discopop": discopop,
}
# Those that read `label_smoothing`; the others would ignore it.
SMOOTHED_LOSSES = ("exo_pair", "robust")


def weighted_loss(names: list[str], weights: list[float]) -> PairLoss:
    """The weighted sum of some losses, as a loss."""
    parts = [(PAIR_LOSSES[name], weight) for name, weight in zip(names, weights, strict=True)]
    if weights == [1.0]:
        return parts[0][0]

    def loss(pairs: LogRatios, options: LossOptions) -> Tensor:  # `[N]`, as each of them
        return torch.stack([weight * part(pairs, options) for part, weight in parts]).sum(0)

    return loss
