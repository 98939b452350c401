"""The devices that a plan is for: the rate that one is assumed to compute at, and its memory."""

import time
from dataclasses import dataclass

import psutil  # type: ignore[import-untyped]  # psutil's

from apo_soup.errors import UserError

# Dense bfloat16 operations a second, and GB of memory, by the makers' data sheets.
GPUS = {
    "a100": (312e12, 80),
    "h100": (989e12, 80),
    "h200": (989e12, 141),
    "b200": (2250e12, 192),
    "l4": (121e12, 24),
    "l40s": (362e12, 48),
    "a10g": (70e12, 24),
    "a6000": (155e12, 48),
    "4090": (165e12, 24),
    "mi300x": (1307e12, 192),
}
# The share of them that a training is assumed to reach: on a GPU of the data sheet's, on a CPU of the best matrix
# product measured here.
GPU_SHARE, CPU_SHARE = 0.4, 0.6
_SIDE, _TRIES = 1024, 5


@dataclass(frozen=True)
class Device:
    """Operations a second, bytes of memory, and where the numbers are from."""

    rate: float
    memory: float
    told: str

    def seconds(self, operations: float, processes: int) -> float:
        """Of so many operations, divided among processes."""
        return operations / (self.rate * processes)


def gpu(name: str) -> Device:
    """A GPU of GPUS.

    Raises:
        UserError: it is not among them.
    """
    if name not in GPUS:
        raise UserError(f"--gpu: expected one of {', '.join(GPUS)}, got {name}; name the one that is nearest")
    rate, memory = GPUS[name]
    return Device(
        GPU_SHARE * rate, memory * 1e9, f"{GPU_SHARE:.0%} of the {rate / 1e12:,.0f} TFLOP/s of one {name} assumed"
    )


def this_cpu() -> Device:
    """This CPU, by the best of a few matrix products of the threads that a training here would have."""
    import torch  # late: a GPU's name is looked at before

    a, b = torch.randn(_SIDE, _SIDE), torch.randn(_SIDE, _SIDE)
    best = 0.0
    for _ in range(_TRIES):
        begun = time.perf_counter()
        a @ b
        best = max(best, 2 * _SIDE**3 / (time.perf_counter() - begun))
    told = f"{CPU_SHARE:.0%} of {best / 1e9:,.0f} GFLOP/s assumed, which matrix products reach here"
    return Device(CPU_SHARE * best, psutil.virtual_memory().total, told)
