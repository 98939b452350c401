"""What a person watches in preference training, as sums over pairs, which rows, steps and ranks can add up."""

import contextlib
import time
from collections.abc import Iterator

import torch
from torch import Tensor

# What each of the sums counts, in the order of their tensor. The sides are chosen and rejected; a log-ratio is
# log p(y|x) - log p_ref(y|x) and a reward is beta times it, both summed over an answer's tokens.
SUM_NAMES = (
    "pairs",
    "positions",
    "truncated",
    "loss",
    "reward_chosen",
    "reward_rejected",
    "correct",  # pairs whose chosen answer has the higher reward
    "logp_chosen",
    "logp_rejected",
    "logratio_chosen",
    "tokens_chosen",
    "tokens_rejected",
)


def pair_sums(
    losses: Tensor, logps: Tensor, reference: Tensor, lengths: Tensor, beta: float, truncated: int, positions: int
) -> Tensor:
    """The sums `[len(SUM_NAMES)]` over the N pairs of a row.

    Args:
        losses: a loss a pair, `[N]`.
        logps: log-probabilities `[N, 2]` of the chosen and rejected answers under the model that is trained.
        reference: the same under the reference.
        lengths: tokens `[N, 2]` of both answers.
        beta: the strength of the loss, by which log-ratios become rewards.
        truncated: how many of the pairs were cut at `max_length`.
        positions: how many positions the row has.
    """
    logratios = logps - reference
    rewards = beta * logratios
    reward_chosen, reward_rejected = rewards.sum(0)
    logp_chosen, logp_rejected = logps.sum(0)
    tokens_chosen, tokens_rejected = lengths.sum(0)
    sums = {
        # Filled where they are needed: copying a number to a GPU would make it wait.
        "pairs": losses.new_full((), len(losses)),
        "positions": losses.new_full((), positions),
        "truncated": losses.new_full((), truncated),
        "loss": losses.sum(),
        "reward_chosen": reward_chosen,
        "reward_rejected": reward_rejected,
        "correct": (rewards[:, 0] > rewards[:, 1]).sum(),
        "logp_chosen": logp_chosen,
        "logp_rejected": logp_rejected,
        "logratio_chosen": logratios[:, 0].sum(),
        "tokens_chosen": tokens_chosen,
        "tokens_rejected": tokens_rejected,
    }
    return torch.stack([sums[name].float() for name in SUM_NAMES])


def mean_metrics(sums: dict[str, float]) -> dict[str, float]:
    """The means that are logged, under the stock trainer's names and some of our own, from the sums by name."""
    pairs = max(1.0, sums["pairs"])
    return {
        "loss": sums["loss"] / pairs,
        "rewards/chosen": sums["reward_chosen"] / pairs,
        "rewards/rejected": sums["reward_rejected"] / pairs,
        "rewards/margins": (sums["reward_chosen"] - sums["reward_rejected"]) / pairs,
        "rewards/accuracies": sums["correct"] / pairs,
        "logps/chosen": sums["logp_chosen"] / pairs,
        "logps/rejected": sums["logp_rejected"] / pairs,
        "logps_per_token/chosen": sums["logp_chosen"] / max(1.0, sums["tokens_chosen"]),
        "logps_per_token/rejected": sums["logp_rejected"] / max(1.0, sums["tokens_rejected"]),
        "logratios_per_token/chosen": sums["logratio_chosen"] / max(1.0, sums["tokens_chosen"]),
        "lengths/chosen": sums["tokens_chosen"] / pairs,
        "lengths/rejected": sums["tokens_rejected"] / pairs,
        "truncated_share": sums["truncated"] / pairs,
    }


def rates(sums: dict[str, float], seconds: float) -> dict[str, float]:
    """Pairs and tokens a second."""
    return {
        "pairs_per_second": sums["pairs"] / max(1e-9, seconds),
        "tokens_per_second": sums["positions"] / max(1e-9, seconds),
    }


# The names of what a packed evaluation measures.
METRIC_NAMES = tuple(mean_metrics(dict.fromkeys(SUM_NAMES, 0.0)))


class LogWindow:
    """The sums since the last log, and the seconds of training they took: saving and evaluating do not count."""

    def __init__(self) -> None:
        self.sums = torch.zeros(len(SUM_NAMES))
        self._since: float | None = None  # the first step of a run begins a window
        self._paused = False

    def forget_time(self) -> None:
        """Begin the window's time with the next step, at the start of a run."""
        self._since = None

    def begin(self) -> None:
        """A step begins, and with it the window if it has not."""
        self._since = self._since or time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of training in the window so far."""
        return time.monotonic() - self._since if self._since is not None else 0.0

    def go_on(self, sums: Tensor, seconds: float) -> None:
        """Go on with the sums `[len(SUM_NAMES)]` and seconds of a window that a checkpoint had begun."""
        self.sums, self._since = sums, time.monotonic() - seconds

    def add(self, sums: Tensor) -> None:
        """Add a row's sums, `[len(SUM_NAMES)]`, on their device."""
        self.sums = self.sums.to(sums.device) + sums

    def close(self) -> tuple[Tensor, float]:
        """The window's sums `[len(SUM_NAMES)]` and seconds; another one begins."""
        now = time.monotonic()
        sums, seconds = self.sums, now - (self._since or now)
        self.sums, self._since = torch.zeros(len(SUM_NAMES)), now
        return sums, seconds

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count as time of training."""
        if self._paused or self._since is None:
            yield
            return
        self._paused, begun = True, time.monotonic()
        try:
            yield
        finally:
            self._paused = False
            self._since += time.monotonic() - begun
