"""Gradients of a micro-batch that lies in several rows: exchanged and stepped with once, behind the last of them."""

import contextlib
from collections.abc import Iterator

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from apo_soup.private import hold_gradients


@contextlib.contextmanager
def gradients_held(accelerator: Accelerator, model: torch.nn.Module, last: bool) -> Iterator[None]:
    """Hold back the optimiser, and DDP's exchange of gradients, for all rows of a micro-batch but the last.

    FSDP and DeepSpeed exchange after every row, since gradients held back would be whole on every rank. So does a
    recipe with `sync_each_batch`.
    """
    state = accelerator.gradient_state
    if last or not state.sync_gradients:  # without it, the Trainer holds them back already
        yield
        return
    sharded = accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
    exchanged = sharded or state.plugin_kwargs.get("sync_each_batch", False)
    hold_gradients(state, True)
    try:
        with contextlib.nullcontext() if exchanged else accelerator.no_sync(model):
            yield
    finally:
        hold_gradients(state, False)
