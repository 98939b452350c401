"""What an accelerate configuration says of the devices a stage will run on, and of what they share."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from apo_soup.config.launch_file import distributed_type, launch_processes, read_launch, rows_divided
from apo_soup.config.yaml_lines import read_yaml
from apo_soup.errors import UserError

Sharing = Literal["none", "ddp", "fsdp", "zero1", "zero2", "zero3"]
# Of accelerate's distributed types those whose devices a plan knows; MPS shares the memory of its machine.
_KNOWN = ("NO", "MULTI_CPU", "MPS", "MULTI_GPU", "FSDP", "DEEPSPEED")
_STAGES: dict[str, Sharing] = {"1": "zero1", "2": "zero2", "3": "zero3"}
# FSDP's strategies by the numbers that stand for them too.
_STRATEGIES = ("FULL_SHARD", "SHARD_GRAD_OP", "NO_SHARD", "HYBRID_SHARD", "HYBRID_SHARD_ZERO2")


@dataclass(frozen=True)
class Processes:
    """Processes, a device each.

    Attributes:
        processes: of all machines together.
        sharing: how they hold the model: each whole (`ddp`), or a part each.
        on_cpu: whether they run on a CPU, or on a device that shares the memory of its machine.
        offload_optimizer: whether the optimiser's states, with the gradients it takes, lie in the memory of the machine
            instead of the device's; `offload_weights` whether the parts of the weights do.
        reshards: whether a layer's gathered weights go when it has been computed.
        group: processes that divide the model among them, where they are fewer than all.
    """

    processes: int = 1
    sharing: Sharing = "none"
    on_cpu: bool = True
    offload_optimizer: bool = False
    offload_weights: bool = False
    reshards: bool = True
    group: int | None = None

    @property
    def divides(self) -> bool:
        """Whether a device holds its part of the optimiser's states, or of more."""
        return self.sharing not in ("none", "ddp")

    @property
    def shards(self) -> int:
        """Into how many parts the optimiser's states are divided."""
        return (self.group or self.processes) if self.divides else 1


def launch_of(file: Path | None) -> Processes:
    """The devices that a configuration asks for; without one, accelerate's own default, or those that are here.

    Raises:
        UserError: the file cannot be read, or asks for what a plan knows nothing of.
    """
    if file is None:
        # What `accelerate config` wrote, which `accelerate launch` then reads too.
        from accelerate.commands.config.config_args import default_config_file

        if not Path(default_config_file).is_file():
            return _of_this_machine()
        file = Path(default_config_file)
    settings, lines = read_launch(file)
    kind = distributed_type(settings)
    if kind not in _KNOWN:
        where = f"{file}:{lines.get('distributed_type', 1)}: distributed_type"
        raise UserError(f"{where}: expected one of {', '.join(_KNOWN)}, got {kind}; plan with a file for one of them")
    processes = launch_processes(file)
    if processes is None:
        raise _open(file, settings, lines)
    on_cpu = settings.get("use_cpu") is True or kind in ("MULTI_CPU", "MPS")
    if kind == "FSDP":
        return _fsdp(settings, processes, on_cpu)
    if kind == "DEEPSPEED":
        return _deepspeed(settings, processes, on_cpu)
    return Processes(processes, "ddp" if processes > 1 else "none", on_cpu)


def _open(file: Path, settings: dict[str, Any], lines: dict[str, int]) -> UserError:
    """Why the processes that take rows are not known."""
    divided = rows_divided(settings)
    if divided:
        key, got = f"parallelism_config.{divided}", settings["parallelism_config"][divided]
        told = f"expected 1, for a plan knows nothing of rows or products that processes share, got {got}"
        return UserError(f"{file}:{lines.get(key, 1)}: {key}: {told}; plan with a file without it")
    got = settings.get("num_processes", "none")
    told = f"expected the number of processes that accelerate starts on this machine, got {got}"
    return UserError(f"{file}:{lines.get('num_processes', 1)}: num_processes: {told}; write it")


def _fsdp(settings: dict[str, Any], processes: int, on_cpu: bool) -> Processes:
    written: dict[str, Any] = settings.get("fsdp_config") or {}
    # As accelerate does, which takes its keys with and without their beginning.
    inside = {key.removeprefix("fsdp_"): str(value).upper() for key, value in written.items()}
    reshard = inside.get("reshard_after_forward", "TRUE")
    group: int | None = None
    if inside.get("version", "1") == "2":
        reshards = reshard != "FALSE"
        parallel: dict[str, Any] = settings.get("parallelism_config") or {}
        if (parallel.get("parallelism_config_dp_replicate_size") or 1) > 1:
            group = parallel.get("parallelism_config_dp_shard_size") or 1
    else:
        strategy = inside.get("sharding_strategy", reshard)
        strategy = _STRATEGIES[int(strategy) - 1] if strategy in ("1", "2", "3", "4", "5") else strategy
        if strategy in ("NO_SHARD", "NO_RESHARD"):
            return Processes(processes, "ddp" if processes > 1 else "none", on_cpu)
        reshards = strategy not in ("SHARD_GRAD_OP", "HYBRID_SHARD_ZERO2", "FALSE")
        if strategy.startswith("HYBRID"):
            group = max(1, processes // (settings.get("num_machines") or 1))
    off = inside.get("offload_params") == "TRUE"
    return Processes(processes, "fsdp", on_cpu, off, off, reshards, group=group if group != processes else None)


def _deepspeed(settings: dict[str, Any], processes: int, on_cpu: bool) -> Processes:
    inside: dict[str, Any] = settings.get("deepspeed_config") or {}
    own = inside.get("deepspeed_config_file")
    if own:
        zero = _mapping(read_yaml(Path(os.path.expanduser(str(own))))[0].get("zero_optimization"))
        stage = str(zero.get("stage", 0))
        devices = [_mapping(zero.get(f"offload_{kind}")).get("device", "none") for kind in ("optimizer", "param")]
    else:
        stage = str(inside.get("zero_stage", 2))
        devices = [inside.get(f"offload_{kind}_device", "none") for kind in ("optimizer", "param")]
    if stage == "0":
        return Processes(processes, "ddp" if processes > 1 else "none", on_cpu)
    optimizer, weights = (device in ("cpu", "nvme") for device in devices)
    return Processes(
        processes,
        _STAGES.get(stage, "zero2"),
        on_cpu,
        offload_optimizer=optimizer,
        offload_weights=weights and stage == "3",
    )


def _mapping(value: Any) -> dict[str, Any]:
    """A part of DeepSpeed's file; nothing where it is no mapping, which is DeepSpeed's to refuse."""
    return value if isinstance(value, dict) else {}


def _of_this_machine() -> Processes:
    import torch

    devices = torch.cuda.device_count()
    return Processes(max(1, devices), "ddp" if devices > 1 else "none", on_cpu=not devices)
