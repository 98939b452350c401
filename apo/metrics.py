"""What a person watches in preference training, as sums over pairs, which rows, steps and ranks can add up."""

import torch
from torch import Tensor

SUMS = ("pairs", "places", "truncated", "loss", "chosen", "rejected", "right", "logp_chosen", "logp_rejected",
        "ratio_chosen", "length_chosen", "length_rejected")  # fmt: skip


def pair_sums(
    losses: Tensor, logps: Tensor, reference: Tensor, lengths: Tensor, beta: float, truncated: int, places: int
) -> Tensor:
    """The sums `[len(SUMS)]`, in their order, over the N pairs of a row.

    Args:
        losses: `[N]`.
        logps, reference: log-probabilities `[N, 2]` of chosen and rejected under the policy and the reference.
        lengths: tokens `[N, 2]` of both answers.
        truncated: how many of the pairs are cut.
        places: how many places the row has.
    """
    ratios = logps - reference
    rewards = beta * ratios
    found = dict(zip(("chosen", "rejected"), rewards.sum(0), strict=True))
    found |= dict(zip(("logp_chosen", "logp_rejected"), logps.sum(0), strict=True))
    found |= dict(zip(("length_chosen", "length_rejected"), lengths.sum(0), strict=True))
    found |= {"loss": losses.sum(), "right": (rewards[:, 0] > rewards[:, 1]).sum(), "ratio_chosen": ratios[:, 0].sum()}
    # Filled where they are needed: copying a number to a GPU would make it wait.
    counted = {"pairs": len(losses), "places": places, "truncated": truncated}
    found |= {name: losses.new_full((), count) for name, count in counted.items()}
    return torch.stack([found[name].float() for name in SUMS])


def means(sums: dict[str, float]) -> dict[str, float]:
    """What is logged, from the sums by name. `num_tokens` and rates are not means and are logged beside them."""
    pairs = max(1.0, sums["pairs"])
    return {
        "loss": sums["loss"] / pairs,
        "rewards/chosen": sums["chosen"] / pairs,
        "rewards/rejected": sums["rejected"] / pairs,
        "rewards/margins": (sums["chosen"] - sums["rejected"]) / pairs,
        "rewards/accuracies": sums["right"] / pairs,
        "logps/chosen": sums["logp_chosen"] / pairs,
        "logps/rejected": sums["logp_rejected"] / pairs,
        "logps_per_token/chosen": sums["logp_chosen"] / max(1.0, sums["length_chosen"]),
        "logps_per_token/rejected": sums["logp_rejected"] / max(1.0, sums["length_rejected"]),
        "logratios_per_token/chosen": sums["ratio_chosen"] / max(1.0, sums["length_chosen"]),
        "lengths/chosen": sums["length_chosen"] / pairs,
        "lengths/rejected": sums["length_rejected"] / pairs,
        "truncated_share": sums["truncated"] / pairs,
    }


# The names of what a packed evaluation measures.
MEASURED = tuple(means(dict.fromkeys(SUMS, 0.0)))
