"""Preference optimisation, packed pairs against the stock trainer, side by side in one run.

    python -m bench.apo [--pairs 64] [--batch 4] [--set chat | FILE.jsonl] [--threads 1] [--repeats 1]

Both train on the same tokenised pairs with apo_zero, float32, a 17 M-parameter SmolLM3 with random weights (speed needs
no others) and a precomputed reference; the time is that of reference and training together. Each runs in a process of
its own. `chat` draws pairs whose prompt, chosen and rejected lengths have means of 453, 314 and 343 tokens and heavy
tails, as real chat data has. Of a file of preference rows the first are taken, tokenised with --tokenizer.

Rates are by the seconds of the processor: by the clock too on a machine that has nothing else to do.

The limit is the time that the floating-point operations needed would take at the best matrix rate of this machine,
measured in the same run: weights of every layer for every place once a pass, attention within each sequence, the LM
head for answer tokens only; a training step counts three passes and the reference one.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.figures import command, in_turns, measured, save

CONTESTANTS = ("stock", "ours")
VOCABULARY = 49_152
SHAPE: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6}
MEANS = {"prompt_ids": 453, "chosen_ids": 314, "rejected_ids": 343}
SPREAD = 0.8  # of the logarithm of a length
LONGEST = 2048


def main() -> None:
    """Parse, run both in turn, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--set", default="chat", help="chat, or a JSONL file of preference rows")
    parser.add_argument("--tokenizer", default="recipes/tiny/base", help="for a file of rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    parser.add_argument("--output", default="bench/results/apo.json")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.rows = str(Path(folder) / "pairs.json")
        pairs = generated(options.pairs) if options.set == "chat" else tokenised(options)
        Path(options.rows).write_text(json.dumps(pairs))
        runs = in_turns(options, "apo", CONTESTANTS)
    report(options, pairs, runs)


def report(options: argparse.Namespace, pairs: list[dict], runs: dict[str, list[dict]]) -> None:
    """Print pairs a second, memory, ratios and the distance to the limit; write them."""
    spent = "processor_seconds"
    rates = {n: statistics.median(len(pairs) / r[spent] for r in found) for n, found in runs.items()}
    peaks = {n: max(r["peak_mb"] for r in found) for n, found in runs.items()}
    best = statistics.median(r["matrix_gflops"] for r in runs["ours"]) * 1e9
    limit = len(pairs) * best / needed_operations(pairs)
    mean = {name: round(statistics.mean(len(p[name]) for p in pairs)) for name in MEANS}
    print(f"\n{len(pairs)} pairs, mean lengths {mean}, batch {options.batch}")
    print(f"{'':6} {'pairs/s':>9} {'of stock':>9} {'of limit':>9} {'peak MB':>9}")
    for name, rate in rates.items():
        of_stock = rate / rates["stock"] if "stock" in rates else float("nan")
        print(f"{name:6} {rate:9.3f} {of_stock:9.2f} {rate / limit:9.2f} {peaks[name]:9,}")
    options.rows = None
    figures = {"runs": runs, "pairs_per_second": rates, "peak_mb": peaks, "limit_pairs_per_second": limit}
    save(options.output, {"command": command(options, "apo"), "mean_lengths": mean, **figures})


def needed_operations(pairs: list[dict]) -> float:
    """Floating-point operations of one reference pass and one training step over all pairs."""
    hidden, inner, layers = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["num_hidden_layers"]
    layer = hidden * hidden * 3 + 3 * hidden * inner
    total = 0.0
    for pair in pairs:
        prompt, chosen, rejected = (len(pair[name]) for name in MEANS)
        seen = prompt**2 / 2 + sum(n * prompt + n**2 / 2 for n in (chosen, rejected))
        body = layers * (2 * layer * (prompt + chosen + rejected) + 4 * hidden * seen)
        total += 4 * (body + 2 * hidden * VOCABULARY * (chosen + rejected))
    return total


def one(options: argparse.Namespace) -> dict:
    """Reference and training of one contestant in this process."""
    from apo_soup.models.libraries import keep_freed_memory, quiet_libraries

    quiet_libraries()
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, SmolLM3Config, SmolLM3ForCausalLM
    from trl import DPOConfig

    from apo.pair_attention import PAIRS, register_pair_attention
    from apo.reference import ReferenceStore
    from apo.stock_trainer import PreparedDPOTrainer
    from apo.train import CAPACITIES
    from apo.trainer import PackedDPOTrainer
    from apo_soup.data.documents import TRUNCATED_COLUMN

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    pairs = json.loads(Path(options.rows).read_text())
    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
    model = SmolLM3ForCausalLM(SmolLM3Config(vocab_size=VOCABULARY, pad_token_id=0, **SHAPE, **heads))
    with tempfile.TemporaryDirectory() as folder:
        arguments = DPOConfig(
            output_dir=folder, loss_type=["apo_zero"], beta=0.05, max_length=LONGEST, use_cpu=True, bf16=False,
            per_device_train_batch_size=options.batch, gradient_accumulation_steps=1, num_train_epochs=1,
            gradient_checkpointing=False, precompute_ref_log_probs=True, precompute_ref_batch_size=options.batch,
            report_to="none", save_strategy="no", logging_steps=1, dataloader_pin_memory=False, disable_tqdm=True,
        )  # fmt: skip
        given = {
            "model": model,
            "args": arguments,
            "train_dataset": Dataset.from_list([row | {TRUNCATED_COLUMN: False} for row in pairs]),
            "processing_class": AutoTokenizer.from_pretrained("recipes/tiny/base"),
            "store": ReferenceStore(Path(folder) / "reference", {"run": "bench"}),
        }
        started, processor = time.perf_counter(), time.process_time()
        trainer: PackedDPOTrainer | PreparedDPOTrainer
        if options.one == "ours":
            keep_freed_memory()  # as the program does
            register_pair_attention()
            model.set_attn_implementation(PAIRS)
            trainer = PackedDPOTrainer(**given, capacity=min(LONGEST, CAPACITIES[PAIRS]))
        else:
            trainer = PreparedDPOTrainer(**given)
        trainer.count_from(None)
        trainer.add_reference()
        reference = time.process_time() - processor
        trainer.train()
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        **measured(seconds, 0),
        "processor_seconds": round(processor, 2),
        "reference_seconds": round(reference, 2),
        "losses": losses[:4],
        "matrix_gflops": round(matrix_rate(), 1),
    }


def matrix_rate() -> float:
    """The best rate of a float32 matrix product here, in GFLOP/s, by the seconds of the processor."""
    import torch

    best = 0.0
    for size in (512, 1024, 2048):
        a, b = torch.randn(size, size), torch.randn(size, size)
        for _ in range(5):
            started = time.process_time()
            a @ b
            best = max(best, 2 * size**3 / (time.process_time() - started) / 1e9)
    return best


def generated(count: int) -> list[dict]:
    """Pairs of random tokens with log-normal lengths of the means above, seeded; the longest are cut to fit."""
    generator = random.Random(0)
    lengths = {
        name: _of_mean([generator.lognormvariate(0, SPREAD) for _ in range(count)], mean)
        for name, mean in MEANS.items()
    }
    return [
        {name: [generator.randrange(5, VOCABULARY) for _ in range(found[n])] for name, found in lengths.items()}
        for n in range(count)
    ]


def _of_mean(shares: list[float], mean: float) -> list[int]:
    """`shares` scaled to whole lengths of this mean, none above half of LONGEST; the cut ones raise the others."""
    scale = mean
    for _ in range(100):
        found = [max(4, min(LONGEST // 2, round(scale * share))) for share in shares]
        scale *= mean / statistics.mean(found)
    return found


def tokenised(options: argparse.Namespace) -> list[dict]:
    """The first rows of a file, as tokens."""
    from apo_soup.data.conversations.pair import parse_pair
    from apo_soup.data.encode_pairs import encode_pair
    from apo_soup.data.rendering.trained_spans import Renderer
    from apo_soup.data.sources.read import read_all_rows
    from apo_soup.models.tokenizer import TokenizerKeys, load_tokenizer

    tokenizer = load_tokenizer(options.tokenizer, "bench", TokenizerKeys("apo-soup"))
    renderer = Renderer(tokenizer)
    rows = read_all_rows(options.set, "bench")[: options.pairs]
    return [encode_pair(parse_pair(row.fields, {}), renderer, tokenizer) for row in rows]


if __name__ == "__main__":
    main()
