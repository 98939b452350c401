"""What an accelerate configuration says of the processes that will run, before any of them is started."""

from pathlib import Path
from typing import Any

from apo_soup.config.yaml_lines import read_yaml

# Of accelerate's distributed types, those whose processes `accelerate launch` starts. For the others, MULTI_CPU and MPS
# among them, it starts one, whatever num_processes says, unless mpirun starts them (its `launch_command`).
_OF_OTHER_DEVICES = ("NPU", "MLU", "SDAA", "MUSA", "XPU", "HPU", "NEURON")
STARTED = {"MULTI_GPU", "FSDP", "DEEPSPEED", "MEGATRON_LM", "XLA", *(f"MULTI_{kind}" for kind in _OF_OTHER_DEVICES)}
# What divides a row or a product among processes, so that fewer of them take rows of their own.
_DIVIDE_ROWS = tuple(f"parallelism_config_{kind}_size" for kind in ("tp", "cp", "sp"))


def launch_processes(file: Path) -> int | None:
    """The processes, on all machines together, that take rows of their own; None where the file leaves that open.

    Raises:
        UserError: the file cannot be read.
    """
    settings, _ = read_yaml(file)
    kind = distributed_type(settings)
    processes = settings.get("num_processes", 1 if kind == "NO" else None)
    local = str(settings.get("compute_environment", "LOCAL_MACHINE")) == "LOCAL_MACHINE"
    if not isinstance(processes, int) or isinstance(processes, bool) or processes < 1:
        return None
    if not local or "distributed_type" not in settings or rows_divided(settings):
        return None
    by_mpirun = (settings.get("mpirun_config") or {}).get("mpirun_hostfile")
    return processes if kind in STARTED or by_mpirun else 1


def distributed_type(settings: dict[str, Any]) -> str:
    """Accelerate's, of which YAML reads an unquoted NO as false."""
    written = settings.get("distributed_type", "NO")
    return "NO" if written is False else str(written)


def rows_divided(settings: dict[str, Any]) -> str | None:
    """The key by which several processes share their rows, such as one of context parallelism, or None."""
    parallel: dict[str, Any] = settings.get("parallelism_config") or {}
    return next((key for key in _DIVIDE_ROWS if parallel.get(key, 1) not in (1, None)), None)
