"""Run a training program under FSDP2 in CPU processes, where accelerate would fall back to DDP.

    torchrun --nproc_per_node 2 tests/fsdp_on_cpu.py apo --config FILE.yaml

accelerate takes FSDP for processes that it believes to have GPUs; torch shards on CPUs too. The sharding is that of
`recipes/accelerate/fsdp2.yaml`, the precision the recipe's own.
"""

import os
import runpy
import sys
from typing import Any

import yaml
from accelerate import PartialState
from accelerate.utils import DistributedType
from helpers import ROOT


def main() -> None:
    settings = yaml.safe_load((ROOT / "recipes" / "accelerate" / "fsdp2.yaml").read_text())["fsdp_config"]
    os.environ |= {"ACCELERATE_USE_FSDP": "true", "ACCELERATE_USE_CPU": "true"}
    os.environ |= {name.upper(): str(value) for name, value in settings.items()}
    original = PartialState.__init__

    def as_if_on_gpus(self: PartialState, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self._shared_state.get("distributed_type") == DistributedType.MULTI_CPU:
            self._shared_state["distributed_type"] = DistributedType.MULTI_GPU

    PartialState.__init__ = as_if_on_gpus
    program = sys.argv.pop(1)
    runpy.run_module(program, run_name="__main__")


main()
