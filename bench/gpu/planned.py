"""Part 4: the plan's memory and time of trainings on this device beside what they then take."""

import json
import struct
import tempfile
from pathlib import Path
from typing import Any

import yaml

from bench.gpu.work import Size, device_here
from bench.plan import LENGTHS, VARIANTS, measured, output_of, recipe_of, write_recipe

ON_CPU = (("tiny", "apo", "", 512),)


def planned() -> dict[str, Any]:
    """A line a case: `bench.plan`'s on the model of SmolLM2-135M's shape, in bfloat16 autocast on a GPU."""
    gpu = device_here().type == "cuda"
    ours = [
        ("smollm2", stage, variant, n) for stage in ("sft", "apo") for variant in VARIANTS for n in LENGTHS["smollm2"]
    ]
    cases = []
    with tempfile.TemporaryDirectory() as folder:
        for model, stage, variant, length in ours if gpu else ON_CPU:
            keys = VARIANTS[variant] | ({"bf16": True} if gpu else {})
            name = f"{model}, {stage}, {length}{', ' if variant else ''}{variant}"
            cases.append({"case": name, **measured(Path(folder), model, stage, keys, length)})
    return {"cases": cases}


def planned_over(devices: int, size: Size, stage: str, longest: int) -> int:
    """MB that the plan says each of so many GPUs takes under FSDP2, for a training of part 3."""
    from transformers import AutoTokenizer

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_without_weights(folder / "base", size.config)
        AutoTokenizer.from_pretrained("recipes/tiny/base").save_pretrained(folder / "base")
        keys = {"bf16": True, "gradient_checkpointing": True, "per_device_train_batch_size": 1}
        write_recipe(folder / "recipe", recipe_of(folder, folder / "base", stage, keys, longest), stage, longest)
        launch = yaml.safe_load(Path("recipes/accelerate/fsdp2.yaml").read_text()) | {"num_processes": devices}
        (folder / "launch.yaml").write_text(yaml.safe_dump(launch))
        words = ("--launch", str(folder / "launch.yaml"), "--gpu", "h100", "--json")
        (plan,) = json.loads(output_of("apo_soup", "plan", str(folder / "recipe"), *words))["stages"].values()
    return round(plan["peak_memory_bytes"] / 2**20)


def write_without_weights(folder: Path, config: dict[str, Any]) -> None:
    """A model folder whose file of weights is a hole of their size: a plan reads its header alone."""
    import torch
    from transformers import SmolLM3Config, SmolLM3ForCausalLM

    with torch.device("meta"):
        model = SmolLM3ForCausalLM(SmolLM3Config(**config, architectures=["SmolLM3ForCausalLM"]))
    model.config.save_pretrained(folder)
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, weight in model.named_parameters():
        begin, end = end, end + 2 * weight.numel()
        header[name] = {"dtype": "BF16", "shape": list(weight.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
