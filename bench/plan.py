"""What `apo-soup plan` says of a training beside what the training then takes: steps exactly, memory in per cent.

    python -m bench.plan [--only tiny] [--output bench/results/plan.json]

Every case is a recipe of its own, planned and then trained for a few steps on the CPU in a process of its own: sft and
apo, all weights and an adapter, activations kept and checkpointed, two lengths, on the demo's base (1 M parameters) and
on a model of SmolLM2-135M's shape with random weights, since memory needs no others. Memory is told with what the
process holds before the training begins, and without: on the small model that is most of it.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from bench.figures import save

SMOLLM2 = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "vocab_size": 49_152,
    "max_position_embeddings": 8192, "tie_word_embeddings": True, "rms_norm_eps": 1e-5, "rope_theta": 100_000,
}  # fmt: skip
LENGTHS = {"tiny": (512, 1536), "smollm2": (512, 1024)}
VARIANTS: dict[str, dict] = {
    "": {},
    "checkpointed": {"gradient_checkpointing": True},
    "lora": {"use_peft": True, "lora_r": 16, "learning_rate": 1e-4},
    "lora, checkpointed": {"use_peft": True, "lora_r": 16, "learning_rate": 1e-4, "gradient_checkpointing": True},
}
ROWS = 12


def main() -> None:
    """Run every case in turn, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="cases whose names hold this")
    parser.add_argument("--output", default="bench/results/plan.json")
    options = parser.parse_args()
    cases = [
        (model, stage, variant, length)
        for model, lengths in LENGTHS.items()
        for stage in ("sft", "apo")
        for variant in VARIANTS
        for length in lengths
    ]
    found = []
    header = f"{'case':42} {'steps':>7} {'planned MB':>10} {'measured':>9} {'off':>6} "
    print(f"{header}{'without':>8} {'measured':>9} {'off':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for model, stage, variant, length in cases:
            name = f"{model}, {stage}, {length}{', ' if variant else ''}{variant}"
            if options.only in name:
                found.append({"case": name, **measured(Path(folder), model, stage, VARIANTS[variant], length)})
                print(line(found[-1]), flush=True)
    save(options.output, {"command": "python -m bench.plan", "cases": found})


def line(case: dict) -> str:
    """A case as a row of the table."""
    return (
        f"{case['case']:42} {case['planned_steps']:3}/{case['steps']:3} {case['planned_mb']:10,} "
        f"{case['peak_mb']:9,} {case['off']:+6.1%} {case['planned_without_mb']:8,} {case['without_mb']:9,} "
        f"{case['off_without']:+6.1%}"
    )


def measured(folder: Path, model: str, stage: str, keys: dict, length: int) -> dict:
    """Plan and train a case in `folder`."""
    shutil.rmtree(folder / "recipe", ignore_errors=True)
    shutil.rmtree(folder / "run", ignore_errors=True)
    base = Path("recipes/tiny/base") if model == "tiny" else _random_model(folder / "smollm2")
    write_recipe(folder / "recipe", recipe_of(folder, base, stage, keys, length), stage, length)
    planned = json.loads(output_of("apo_soup", "plan", str(folder / "recipe"), "--json"))["stages"]
    (plan,) = planned.values()
    output_of(stage, "--config", str(folder / "recipe" / f"{stage}.yaml"))
    made = folder / "run" / stage / ("1" if stage == "apo" else "")
    manifest = json.loads((made / "manifest.json").read_text())
    metrics, of_gpu = manifest["metrics"], manifest["metrics"].get("peak_gpu_memory_mb")
    before, peak = (0, of_gpu) if of_gpu else (metrics["memory_before_mb"], manifest["peak_memory_mb"])
    total, process = (round(n / 2**20) for n in (plan["peak_memory_bytes"], plan["memory"]["process"]))
    return {
        "planned_steps": plan["steps"], "steps": metrics["steps"],
        "planned_mb": total, "peak_mb": peak, "off": total / peak - 1,
        "planned_without_mb": total - process, "without_mb": peak - before,
        "off_without": (total - process) / (peak - before) - 1,
        "planned_process_mb": process, "process_mb": before,
        "planned_seconds": plan["seconds"], "seconds": metrics["train_seconds"],
    }  # fmt: skip


def recipe_of(folder: Path, base: Path, stage: str, keys: dict, length: int) -> dict:
    """The keys of a case's stage file, which trains into `folder`."""
    common = {
        "model_name_or_path": str(base.absolute()), "output_dir": str(folder / "run" / stage), "dtype": "float32",
        "chat_template": "apo-soup", "dataset_mixture": {"datasets": [{"id": str(folder / "recipe" / "rows.jsonl")}]},
        "max_length": length, "num_train_epochs": 1, "per_device_train_batch_size": 2, "bf16": False,
        "gradient_checkpointing": False, "save_strategy": "no", "logging_steps": 1, "report_to": "none",
        "overflow": "truncate", "learning_rate": 1e-6,
    }  # fmt: skip
    own = {"assistant_only_loss": True, "packing": True} if stage == "sft" else {"loss_type": "apo_zero"}
    return {**common, **own, **keys}


def write_recipe(recipe: Path, keys: dict, stage: str, length: int) -> None:
    """A recipe folder with its rows. A word of these is a token or two; rows of sft are long ones, so that a sequence
    is full.
    """
    recipe.mkdir(parents=True)
    generator = random.Random(0)
    rows = [(_row if stage == "sft" else _pair)(generator, length) for _ in range(ROWS)]
    (recipe / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (recipe / f"{stage}.yaml").write_text(yaml.safe_dump(keys))


def _random_model(folder: Path) -> Path:
    """A model of SmolLM2-135M's shape with the demo's tokenizer."""
    if not folder.is_dir():
        code = (
            "import sys; from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM; import json;"
            "LlamaForCausalLM(LlamaConfig(**json.loads(sys.argv[1]))).save_pretrained(sys.argv[2]);"
            "AutoTokenizer.from_pretrained('recipes/tiny/base').save_pretrained(sys.argv[2])"
        )
        subprocess.run([sys.executable, "-c", code, json.dumps(SMOLLM2), str(folder)], check=True, env=_environment())
    return folder


def _row(generator: random.Random, length: int) -> dict:
    return {"messages": [_turn("user", generator, length // 8), _turn("assistant", generator, length // 4)]}


def _pair(generator: random.Random, length: int) -> dict:
    answers = ([_turn("assistant", generator, length // 8)] for _ in range(2))
    chosen, rejected = answers
    return {"prompt": [_turn("user", generator, length // 8)], "chosen": chosen, "rejected": rejected}


def _turn(role: str, generator: random.Random, words: int) -> dict:
    return {"role": role, "content": " ".join(str(generator.randrange(10)) for _ in range(words))}


def output_of(module: str, *words: str) -> str:
    """What a program prints.

    Raises:
        SystemExit: it fails, with the end of what it said.
    """
    result = subprocess.run([sys.executable, "-m", module, *words], capture_output=True, text=True, env=_environment())
    if result.returncode:
        raise SystemExit(f"{module} {' '.join(words)}: {result.stdout[-1500:]}{result.stderr[-1500:]}")
    return result.stdout


def _environment() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1"}


if __name__ == "__main__":
    main()
