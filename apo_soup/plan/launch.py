"""What an accelerate configuration says of the devices a stage will run on, and of what they share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from apo_soup.config.yaml_lines import read_yaml

Sharing = Literal["none", "ddp", "fsdp", "zero2", "zero3"]
_KINDS: dict[str, Sharing] = {"MULTI_GPU": "ddp", "MULTI_CPU": "ddp", "FSDP": "fsdp"}


@dataclass(frozen=True)
class Processes:
    """Processes, a device each.

    Attributes:
        processes: of all machines together.
        sharing: how they hold the model: each whole (`ddp`), or a part each.
        on_cpu: whether they run on a CPU.
        offload: whether weights and optimiser lie in the memory of the machine instead of the device's.
    """

    processes: int = 1
    sharing: Sharing = "none"
    on_cpu: bool = True
    offload: bool = False

    @property
    def shards(self) -> int:
        """Into how many parts the optimiser's states are divided."""
        return self.processes if self.sharing in ("fsdp", "zero2", "zero3") else 1


def launch_of(file: Path | None) -> Processes:
    """The devices that a configuration asks for; without one, those that are here.

    Raises:
        UserError: the file cannot be read.
    """
    if file is None:
        return _of_this_machine()
    settings, _ = read_yaml(file)
    kind = str(settings.get("distributed_type", "NO"))
    processes = settings.get("num_processes", 1)
    sharing = _KINDS.get(kind, "none")
    inside: dict[str, Any] = settings.get("deepspeed_config") or {}
    if kind == "DEEPSPEED":
        sharing = "zero3" if inside.get("zero_stage") == 3 else "zero2"
    sharded: dict[str, Any] = settings.get("fsdp_config") or {}
    off = sharded.get("fsdp_offload_params") is True or inside.get("offload_optimizer_device") in ("cpu", "nvme")
    return Processes(
        processes if isinstance(processes, int) and processes > 0 else 1,
        sharing,
        settings.get("use_cpu") is True or kind == "MULTI_CPU",
        off,
    )


def _of_this_machine() -> Processes:
    import torch

    devices = torch.cuda.device_count()
    return Processes(max(1, devices), "ddp" if devices > 1 else "none", on_cpu=not devices)
