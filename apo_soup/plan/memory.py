"""The most memory that a device, or a process on a CPU, holds during a training: a rehearsed step and what is shared.

Of P trained numbers every process holds masters, gradients and the optimiser's states, whole or its part of them, and
beside them what the passes hold, which nobody shares (ZeRO, Rajbhandari et al. 2020, arXiv 1910.02054).
"""

from dataclasses import dataclass

from apo_soup.plan.launch import Processes
from apo_soup.plan.rehearsal import Rehearsal

# Measured with glibc (`bench.plan`): the heap of a process for a byte of activations that is alive, by whether they
# are checkpointed and whether an adapter is trained. An aligned block that was freed has no room for another of its
# own size, so the more blocks come and go, the more of the heap lies unused between them.
HEAP = {(False, False): 1.28, (True, False): 3.0, (False, True): 1.75, (True, True): 4.0}
# Bytes of code that is loaded at the first step.
FIRST_STEP = 5e6
# Numbers in DeepSpeed's buckets of gradients and of gathered weights, and ZeRO-3's most numbers gathered at once, as
# its defaults are (deepspeed.ai/docs/config-json).
_BUCKET, _GATHERED = 5e8, 1e9
# Bytes of a number in bfloat16 or float16, and in float32.
_LOW, _FULL = 2, 4


@dataclass(frozen=True)
class PeakMemory:
    """Bytes at the peak of a training, by what they are of.

    Attributes:
        weights: with the masters that DeepSpeed keeps beside them.
        gradients: with the buckets they are exchanged in.
        optimizer: its states.
        passes: activations, logits, masks, gathered layers, and on a CPU what lies unused between blocks.
        process: on a CPU, what the process takes before it begins.
    """

    weights: float
    gradients: float
    optimizer: float
    passes: float
    process: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.weights + self.gradients + self.optimizer + self.passes + self.process


def on_cpu(step: Rehearsal, states: float, process: float, checkpointed: bool, adapted: bool) -> PeakMemory:
    """A process on a CPU.

    Args:
        states: the optimiser's bytes for a byte of trained weights.
        process: what the process takes before.
        checkpointed: activations are computed again.
        adapted: an adapter is trained.
    """
    optimizer = states * step.trained
    activations = max(0.0, step.process - step.weights - optimizer - step.trained)
    passes = FIRST_STEP + HEAP[checkpointed, adapted] * activations
    return PeakMemory(step.weights, step.trained, optimizer, passes, process)


def on_device(step: Rehearsal, states: float, launch: Processes) -> PeakMemory:
    """A device that holds the model whole; beside others, torch exchanges gradients in buckets of their size."""
    gradients = float(step.trained) * (2 if launch.sharing == "ddp" else 1)
    return PeakMemory(step.weights, gradients, states * step.trained, max(0, step.passes - step.trained))


def on_shards(weights: float, trained: float, states: float, launch: Processes, low: Rehearsal) -> PeakMemory:
    """A device that holds its part of the model; what is offloaded lies in the memory of the machine.

    Args:
        weights: bytes of all weights in the types of the masters, `trained` those of the trained ones.
        low: a step rehearsed in the type of the products alone: gathered layers come in that type, and are gone when
            they have been computed.
    """
    parts = launch.shards
    optimizer = 0.0 if launch.offload_optimizer else states * trained / parts
    if launch.sharing == "fsdp":
        # Without resharding every layer's weights stay from its forward pass to its backward pass.
        layers = _LOW * (2 * low.largest_layer + low.outside) if launch.reshards else low.weights
        passes = low.activations + layers + _FULL * low.largest_layer
        if launch.offload_weights:
            return PeakMemory(0.0, 0.0, optimizer, passes)
        return PeakMemory(weights / parts, trained / parts, optimizer, passes)
    count, frozen = trained / _FULL, weights - trained
    # The masters lie where the optimiser does, and with it the gradients that it takes but for those of ZeRO-1.
    masters = 0.0 if launch.offload_optimizer else _FULL * count / parts
    gradients, buckets = _LOW * count / parts, 2 * _LOW * min(_BUCKET, count)
    if launch.sharing == "zero1":
        gradients = _LOW * count
    elif launch.offload_optimizer:
        gradients = 0.0
    if launch.sharing in ("zero1", "zero2"):
        return PeakMemory(frozen + _LOW * count + masters, gradients, optimizer, low.activations + buckets)
    gathered = _LOW * min(_GATHERED, low.weights / _LOW)
    part = 0.0 if launch.offload_weights else (frozen + _LOW * count) / parts
    return PeakMemory(part + masters, gradients, optimizer, low.activations + buckets + gathered)
