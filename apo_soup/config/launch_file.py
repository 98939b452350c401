"""What an accelerate configuration says of the processes that will run, before any of them is started."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from apo_soup.config.in_words import as_written
from apo_soup.config.library_source import class_members, fields_of
from apo_soup.config.nearest import nearest
from apo_soup.config.yaml_lines import read_yaml
from apo_soup.errors import told_together

# Of accelerate's distributed types, those whose processes `accelerate launch` starts. For the others, MULTI_CPU and MPS
# among them, it starts one, whatever num_processes says, unless mpirun starts them (its `launch_command`).
_OF_OTHER_DEVICES = ("NPU", "MLU", "SDAA", "MUSA", "XPU", "HPU", "NEURON")
STARTED = {"MULTI_GPU", "FSDP", "DEEPSPEED", "MEGATRON_LM", "XLA", *(f"MULTI_{kind}" for kind in _OF_OTHER_DEVICES)}
# What divides a row or a product among processes, so that fewer of them take rows of their own: tensor, context and
# sequence parallelism.
DIVIDED_KINDS = ("tp", "cp", "sp")
# Where accelerate declares the keys of such a file, by its classes.
_DECLARED, _CLASSES = "commands/config/config_args.py", ("BaseConfig", "ClusterConfig", "SageMakerConfig")
_ZERO_STAGES = ("0", "1", "2", "3")


def read_launch(file: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """An accelerate configuration and the line of each of its keys, as `read_yaml` gives them.

    Raises:
        UserError: the file cannot be read; or with everything in it that accelerate would refuse, or that would end in
            a fault of its own.
    """
    settings, lines = read_yaml(file)
    problems = [f"{file}:{lines.get(key, 1)}: {key}: {told}" for key, told in _faults(settings)]
    if problems:
        raise told_together(problems)
    return settings, lines


def _faults(settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    known = [name for declared in _CLASSES for name in fields_of("accelerate", _DECLARED, declared)]
    for key, value in settings.items():
        if key not in known:
            way = nearest(key, known) or "remove it"
            yield str(key), f"expected a key of accelerate's, got an unknown one; {way}"
        elif str(key).endswith("_config") and not isinstance(value, dict | None):
            yield key, f"expected a mapping, got {as_written(value)}; write its keys below it"
    types = [str(word) for word in class_members("accelerate", "utils/dataclasses.py", "DistributedType").values()]
    kind = distributed_type(settings)
    if kind not in (*types, "MPS"):
        way = nearest(kind, types) or "write one of these"
        yield "distributed_type", f"expected one of {', '.join(types)}, got {kind}; {way}"
    machines = settings.get("num_machines", 1)
    if not isinstance(machines, int) or machines < 1:
        yield "num_machines", f"expected a whole number of 1 or more, got {as_written(machines)}; correct it"
    zero = settings.get("deepspeed_config")
    stage = zero.get("zero_stage", 2) if isinstance(zero, dict) else 2
    if str(stage) not in _ZERO_STAGES:
        told = f"expected one of {', '.join(_ZERO_STAGES)}, got {as_written(stage)}; correct it"
        yield "deepspeed_config.zero_stage", told


def launch_processes(file: Path) -> int | None:
    """The processes, on all machines together, that take rows of their own; None where the file leaves that open.

    Raises:
        UserError: as `read_launch`.
    """
    settings, _ = read_launch(file)
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
    keys = (f"parallelism_config_{kind}_size" for kind in DIVIDED_KINDS)
    return next((key for key in keys if parallel.get(key, 1) not in (1, None)), None)
