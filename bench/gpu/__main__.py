"""What one GPU shows, a part a command, each meant for nine minutes at most; on a CPU small sizes, under SDPA.

    python -m bench.gpu --part 1      losses and gradients of every attention beside SDPA in float32
    python -m bench.gpu --part 2      compilations over 200 rows of different lengths
    python -m bench.gpu --part 3 [--stage apo]
                                      speed, utilisation and memory on SmolLM3-3B's shape, random weights
    python -m bench.gpu --part 4      what `apo-soup plan` says beside what trainings then take

Needs this project's packages (`constraints.txt`) beside a torch for the GPU; nothing is downloaded. Writes
bench/results/gpu_parity.json, gpu_compilations.json, gpu_speed.json and gpu_plan.json.
"""

import argparse
import json
import os
from typing import Any

from bench.figures import save

NAMES = {1: "parity", 2: "compilations", 3: "speed", 4: "plan"}
STAGES = ("apo", "sft")


def main() -> None:
    """Run one part, print it and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=int, choices=NAMES, required=True)
    parser.add_argument("--stage", choices=STAGES, help="of part 3, one stage alone")
    parser.add_argument("--output", help="the file of the figures")
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    stages = [options.stage] if options.stage else list(STAGES)
    name = f"gpu_{NAMES[options.part]}" + (f"_{options.stage}" if options.stage else "")
    found = figures(options.part, stages)
    print(json.dumps(found, indent=1))
    save(
        options.output or f"bench/results/{name}.json",
        {"command": f"python -m bench.gpu --part {options.part}", **found},
    )


def figures(part: int, stages: list[str]) -> dict[str, Any]:
    """Those of a part, with the device they are of."""
    from apo_soup.models.libraries import quiet_libraries

    quiet_libraries()
    import torch

    from bench.gpu.compilations import compilations
    from bench.gpu.parity import parity
    from bench.gpu.planned import planned
    from bench.gpu.speed import speed
    from bench.gpu.work import size_here

    size = size_here()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    found = {
        1: lambda: parity(size),
        2: lambda: compilations(size),
        3: lambda: speed(size, stages),
        4: planned,
    }[part]()
    return {"device": device, "torch": torch.__version__, **found}


if __name__ == "__main__":
    main()
