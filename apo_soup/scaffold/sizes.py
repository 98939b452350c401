"""The machines that a recipe is written for, by the names of `--size`."""

from dataclasses import dataclass, replace
from pathlib import Path

from apo_soup.config.nearest import nearest
from apo_soup.errors import UserError
from apo_soup.plan.launch import Processes, launch_of
from apo_soup.resources import launch_file


@dataclass(frozen=True)
class MachineSize:
    """A machine.

    Attributes:
        told: what it is, in words.
        memory: bytes of a device, or of the machine where there is none.
        longest: the longest sequence that is written for it, in tokens.
        batch: the largest global batch, in sequences or pairs.
        launch: the accelerate configuration that starts its processes; empty for accelerate's own default.
        nodes: how many such machines there are, which Slurm gives out where they are several.
    """

    told: str
    memory: float
    longest: int
    batch: int
    launch: str = ""
    on_cpu: bool = False
    nodes: int = 1

    @property
    def processes(self) -> Processes:
        """What a plan is made for.

        Raises:
            UserError: the launch's file cannot be read, or is not there.
        """
        if self.launch:
            on_one = launch_of(Path(launch_file(self.launch)))
            return replace(on_one, processes=on_one.processes * self.nodes)
        return Processes(on_cpu=self.on_cpu)


SIZES = {
    "laptop": MachineSize("a laptop of 8 GB without a GPU", 8e9, 2048, 16, on_cpu=True),
    "gpu": MachineSize("one GPU of 24 GB", 24e9, 8192, 32),
    "node": MachineSize("8 GPUs of 80 GB", 80e9, 32768, 128, launch="fsdp2.yaml"),
    "cluster": MachineSize("two machines of 8 GPUs of 80 GB under Slurm", 80e9, 32768, 128, "fsdp2.yaml", nodes=2),
}


def machine_size(name: str) -> MachineSize:
    """The machine of a name.

    Raises:
        UserError: there is none of that name.
    """
    if name not in SIZES:
        way = nearest(name, SIZES) or "write one of them"
        raise UserError(f"--size: expected one of {', '.join(SIZES)}, got {name}; {way}")
    return SIZES[name]
