"""Preparation of supervised rows, side by side with TRL, in one run.

    python -m bench.prepare [--rows FILE] [--count 24000] [--tokenizer DIR] [--repeats 3]
    python -m bench.prepare --memory 2000000

Contestants, each in a process of its own, turn by turn:

    trl       SFTTrainer's own preparation: assistant-only mask, bfd packing (the trainer's constructor is timed)
    trl x2    the same with dataset_num_proc: 2
    ours      `apo-soup prepare`, from the file on disk to the folder on disk, mask check, counts and hashes included
    ours x2   the same with dataset_num_proc: 2
    bare      rendering every row and one batch encoding of all texts, nothing else: no mask, no packing, no file

Tokens a second are those of the rendered rows. `--memory` prepares generated rows and prints the peak.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figures import command, measured, save

CONTESTANTS = ("trl", "trl x2", "ours", "ours x2", "bare")
MAX_LENGTH = 4096


def main() -> None:
    """Parse, run the contestants in turn, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", help="JSONL of messages; generated when not given")
    parser.add_argument("--count", type=int, default=24_000, help="rows, the file repeated as needed")
    parser.add_argument("--tokenizer", default="recipes/tiny/base")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", type=int, metavar="ROWS", help="prepare that many generated rows, print the peak")
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--output", default="bench/results/prepare.json")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, Path(options.rows), options.tokenizer)))
        return
    with tempfile.TemporaryDirectory() as folder:
        if options.memory:
            memory(options, Path(folder))
        else:
            compare(options, Path(folder))


def compare(options: argparse.Namespace, folder: Path) -> None:
    """All contestants `repeats` times, turn by turn, so that noise of the machine falls on all of them."""
    rows = folder / "rows.jsonl"
    lines = Path(options.rows).read_bytes().splitlines(keepends=True) if options.rows else list(generated(3000))
    rows.write_bytes(b"".join(lines[n % len(lines)] for n in range(options.count)))
    runs: dict[str, list[dict]] = {name: [] for name in CONTESTANTS}
    for _ in range(options.repeats):
        for name in CONTESTANTS:
            words = ["-m", "bench.prepare", "--one", name, "--rows", str(rows), "--tokenizer", options.tokenizer]
            result = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=True)
            runs[name].append(json.loads(result.stdout.splitlines()[-1]))
            print(f"{name:8} {runs[name][-1]}", flush=True)
    rates = {n: statistics.median(r["tokens"] / r["seconds"] for r in found) for n, found in runs.items()}
    spent = {n: statistics.median(r["processor_seconds"] for r in found) for n, found in runs.items()}
    print(f"\n{'':8} {'tokens/s':>12} {'of trl':>8} {'of bare':>8} {'processor':>10} {'peak MB':>8}")
    for name, rate in rates.items():
        peak = max(r["peak_mb"] for r in runs[name])
        ratios = f"{rate / rates['trl']:8.2f} {rate / rates['bare']:8.2f}"
        print(f"{name:8} {rate:12,.0f} {ratios} {spent[name]:10.1f} {peak:8,}")
    figures = {"median_tokens_per_second": rates, "median_processor_seconds": spent}
    save(options.output, {"command": command(options, "prepare"), "runs": runs, **figures})


class Clock:
    """Seconds that pass, and those of the processor in this process and its children."""

    def __init__(self) -> None:
        self.started, self.spent_before = time.perf_counter(), _processor()

    def spent(self) -> dict:
        """Both since it was made."""
        seconds, processor = time.perf_counter() - self.started, _processor() - self.spent_before
        return {"seconds": round(seconds, 2), "processor_seconds": round(processor, 2)}


def _processor() -> float:
    return sum(os.times()[:4])


def one(name: str, rows: Path, tokenizer: str) -> dict:
    """Time one contestant in this process."""
    from apo_soup.models.libraries import quiet_libraries

    quiet_libraries()
    processes = 2 if name.endswith("x2") else 1
    if name.startswith("ours"):
        return ours(rows, tokenizer, processes)
    return trl(rows, tokenizer, processes) if name.startswith("trl") else bare(rows, tokenizer)


def ours(rows: Path, tokenizer: str, processes: int) -> dict:
    """`apo-soup prepare` on the file."""
    from apo_soup.config.load import load
    from apo_soup.data.prepare import prepare_mixture
    from apo_soup.models.recipe_tokenizer import recipe_tokenizer

    with tempfile.TemporaryDirectory() as folder:
        recipe = load(written(Path(folder), rows, tokenizer, processes), "sft")
        loaded = recipe_tokenizer(recipe)
        clock = Clock()
        made = prepare_mixture(recipe, loaded, lambda text: None)
        spent = clock.spent()
        stats = json.loads((made / "stats.json").read_text())
    return measured(spent["seconds"], stats["total"]["tokens"]) | spent


def written(folder: Path, rows: Path, tokenizer: str, processes: int) -> Path:
    """A stage file for the rows."""
    file = folder / "sft.yaml"
    file.write_text(
        f"model_name_or_path: {tokenizer}\noutput_dir: {folder}/run/sft\nchat_template: apo-soup\n"
        f"dataset_mixture:\n  datasets:\n    - id: {rows}\nassistant_only_loss: true\npacking: true\n"
        f"max_length: {MAX_LENGTH}\ndataset_num_proc: {processes}\n"
    )
    return file


def trl(rows: Path, tokenizer: str, processes: int) -> dict:
    """TRL's preparation, as its trainer does it when it is made; rows are read before the clock starts."""
    from datasets import Dataset, disable_caching
    from transformers.models.llama import LlamaConfig, LlamaForCausalLM
    from trl import SFTConfig, SFTTrainer

    from apo_soup.models.tokenizer import TokenizerKeys, load_tokenizer

    disable_caching()
    loaded = load_tokenizer(tokenizer, "bench", TokenizerKeys("apo-soup"))
    table = Dataset.from_list([json.loads(line) for line in rows.open()])
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(loaded), hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            assistant_only_loss=True,
            packing=True,
            max_length=MAX_LENGTH,
            use_cpu=True,
            bf16=False,
            report_to="none",
            dataset_num_proc=processes if processes > 1 else None,
        )
        clock = Clock()
        trainer = SFTTrainer(model=model, args=arguments, train_dataset=table, processing_class=loaded)
        spent = clock.spent()
    sequences: Any = trainer.train_dataset
    return measured(spent["seconds"], sum(map(len, sequences["input_ids"]))) | spent


def bare(rows: Path, tokenizer: str) -> dict:
    """Rendering and batch encoding alone; rows are read before the clock starts."""
    from apo_soup.models.tokenizer import TokenizerKeys, encode, load_tokenizer

    loaded = load_tokenizer(tokenizer, "bench", TokenizerKeys("apo-soup"))
    content = [json.loads(line) for line in rows.open()]
    clock = Clock()
    texts = [
        str(loaded.apply_chat_template(r["messages"], tokenize=False, **r.get("chat_template_kwargs", {})))
        for r in content
    ]
    encodings = encode(loaded, texts)
    spent = clock.spent()
    return measured(spent["seconds"], sum(map(len, encodings))) | spent


def memory(options: argparse.Namespace, folder: Path) -> None:
    """Prepare generated rows in this process and print time and peak memory."""
    from apo_soup.models.libraries import quiet_libraries

    quiet_libraries()
    from apo_soup.config.load import load
    from apo_soup.data.prepare import prepare_mixture
    from apo_soup.models.recipe_tokenizer import recipe_tokenizer

    rows = folder / "rows.jsonl"
    with rows.open("wb") as file:
        file.writelines(generated(options.memory))
    recipe = load(written(folder, rows, options.tokenizer, 1), "sft")
    started = time.perf_counter()
    made = prepare_mixture(recipe, recipe_tokenizer(recipe))
    found = measured(time.perf_counter() - started, json.loads((made / "stats.json").read_text())["total"]["tokens"])
    print(f"{options.memory:,} rows  {found}")
    save(
        options.output.replace(".json", "_memory.json"),
        {"command": command(options, "prepare"), "rows": options.memory, **found},
    )


def generated(count: int):
    """Seeded rows of a question and an answer, some with reasoning, as JSON lines."""
    generator = random.Random(0)
    words = ["train", "house", "apples", "seven", "minus", "then", "we", "have", "left", "of", "the", "total", "is"]
    for number in range(count):
        text = " ".join(generator.choices(words, k=generator.randrange(5, 40)))
        think = number % 3 > 0
        thought = f"<think>\n{text} {number}\n</think>\n" if think else ""
        row = {
            "messages": [
                {"role": "user", "content": f"What is {number} and {text}?"},
                {"role": "assistant", "content": f"{thought}{number}"},
            ],
            "chat_template_kwargs": {"enable_thinking": think},
        }
        yield json.dumps(row).encode() + b"\n"


if __name__ == "__main__":
    main()
