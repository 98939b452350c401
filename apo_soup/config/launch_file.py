"""What an accelerate configuration says of the processes that will run, before any of them is started."""

from pathlib import Path

from apo_soup.config.yaml_lines import read_yaml


def launch_processes(file: Path) -> int | None:
    """The processes, on all machines together, that take rows of their own; None where the file leaves that open.

    Raises:
        UserError: the file cannot be read.
    """
    settings, _ = read_yaml(file)
    processes = settings.get("num_processes")
    if settings.get("parallelism_config") or isinstance(processes, bool):
        return None
    return processes if isinstance(processes, int) and processes > 0 else None
