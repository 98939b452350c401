"""Weights and gradients that are not finite, found before anything is made of them."""

from collections.abc import Iterable

import torch

from apo_soup.errors import UserError


def local_shard(tensor: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a distributed tensor of any shape, or the tensor itself."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


@torch.no_grad()
def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether every value of this rank's shards, of any shape, is finite; quantised weights, which are whole numbers,
    are.
    """
    shards = [shard for shard in map(local_shard, tensors) if shard.is_floating_point() and shard.device.type != "meta"]
    # On one device: layers may lie on several. A type of one byte knows no infinity, and torch no `isfinite` of it.
    finite = [(shard if shard.itemsize > 1 else shard.float()).isfinite().all() for shard in shards]
    return not finite or bool(torch.stack([each.to(finite[0].device) for each in finite]).all())


def require_finite(model: torch.nn.Module, when: str, trained: bool = True) -> None:
    """Raise UserError where a weight of the model is not finite.

    Args:
        when: the last step, in words.
        trained: whether a step was made; else the model came so.
    """
    if not all_finite(model.parameters()):
        name = next(name for name, weight in model.named_parameters() if not all_finite([weight]))
        way = "lower learning_rate, or look at the rows before this step; the last checkpoint is sound"
        if not trained:
            way = "train or fetch the model that it begins with again"
        raise UserError(f"{when}: expected finite weights, got {name} with values that are not; {way}")
