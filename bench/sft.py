"""Supervised fine-tuning, stock TRL padded, stock TRL packed and ours, side by side in one run.

    python -m bench.sft [--count 48] [--batch 4] [--set chat | FILE.jsonl] [--threads 1] [--repeats 2]

All train on the same tokenised conversations, with the loss on the answers, in float32, a 17 M-parameter SmolLM3 with
random weights (speed needs no others). Ours and TRL's packed rows have up to 1 024 tokens. Each runs in a process of
its own, in turns, and the medians count. Tokens a second are those of the conversations: padding is not counted. `chat`
draws conversations whose prompts and answers have means of 453 and 329 tokens and heavy tails, as real chat data has,
none longer than 1 024. Of a file of conversations the first are taken, tokenised with --tokenizer.

Beside the speed, the loss and the gradients of one batch: every contestant's sums over the same eight conversations,
one of each packing, whose differences are those of the order of float32 sums.

The limit is the time that the floating-point operations needed would take at the best matrix rate of this machine,
measured in the same run: weights of every layer for every token, attention within each conversation, the LM head for
trained tokens only, three passes.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.apo import LONGEST, SHAPE, VOCABULARY, _of_mean, matrix_rate
from bench.figures import command, in_turns, measured, save

CONTESTANTS = ("padded", "packed", "ours")
MEANS = {"prompt": 453, "answer": 329}
SPREAD = 0.8  # of the logarithm of a length
MAX_LENGTH = LONGEST // 2
# Conversations whose loss and gradients are compared.
COMPARED = 8


def main() -> None:
    """Parse, run all in turn, print a table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=48, help="conversations")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--set", default="chat", help="chat, or a JSONL file of conversations")
    parser.add_argument("--tokenizer", default="recipes/tiny/base", help="for a file of rows")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--rows", help=argparse.SUPPRESS)
    parser.add_argument("--output", default="bench/results/sft.json")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options)))
        return
    with tempfile.TemporaryDirectory() as folder:
        options.rows = str(Path(folder) / "rows.json")
        rows = generated(options.count) if options.set == "chat" else tokenised(options)
        Path(options.rows).write_text(json.dumps(rows))
        runs = in_turns(options, "sft", CONTESTANTS)
    report(options, rows, runs)


def report(options: argparse.Namespace, rows: list[dict], runs: dict[str, list[dict]]) -> None:
    """Print tokens a second, memory, ratios and the distance to the limit; write them."""
    tokens = sum(len(row["input_ids"]) for row in rows)
    trained = sum(row["trained"][1] - row["trained"][0] for row in rows)
    rates = {n: statistics.median(tokens / r["seconds"] for r in found) for n, found in runs.items()}
    spent = {n: statistics.median(r["processor_seconds"] for r in found) for n, found in runs.items()}
    peaks = {n: max(r["peak_mb"] for r in found) for n, found in runs.items()}
    best = statistics.median(r["matrix_gflops"] for r in runs["ours"]) * 1e9
    limit = tokens * best / needed_operations(rows)
    better = max(rates["padded"], rates["packed"])
    print(f"\n{len(rows)} conversations, {tokens:,} tokens, {trained:,} trained, batch {options.batch}")
    heads = ("tokens/s", "of TRL", "of limit", "processor", "peak MB", "of padded")
    print(f"{'':6} {' '.join(f'{head:>9}' for head in heads)}  loss, gradients' norm")
    for name, rate in rates.items():
        found = runs[name][0]
        print(
            f"{name:6} {rate:9.1f} {rate / better:9.2f} {rate / limit:9.2f} {spent[name]:8.1f}s {peaks[name]:9,} "
            f"{peaks[name] / peaks['padded']:9.2f}  {found['compared_loss']:.7f} {found['compared_norm']:.7f}"
        )
    options.rows = None
    figures = {"runs": runs, "tokens_per_second": rates, "peak_mb": peaks, "limit_tokens_per_second": limit}
    counts = {"conversations": len(rows), "tokens": tokens, "trained": trained}
    save(options.output, {"command": command(options, "sft"), **counts, **figures})


def needed_operations(rows: list[dict]) -> float:
    """Floating-point operations of training once on every conversation."""
    hidden, inner, layers = SHAPE["hidden_size"], SHAPE["intermediate_size"], SHAPE["num_hidden_layers"]
    layer = hidden * hidden * 3 + 3 * hidden * inner
    total = 0.0
    for row in rows:
        count, (first, last) = len(row["input_ids"]), row["trained"]
        body = layers * (2 * layer * count + 4 * hidden * count**2 / 2)
        total += 3 * (body + 2 * hidden * VOCABULARY * (last - first))
    return total


def one(options: argparse.Namespace) -> dict:
    """Training of one contestant in this process."""
    from apo_soup.models.libraries import keep_freed_memory, quiet_libraries

    quiet_libraries()
    import torch

    torch.set_num_threads(options.threads)
    rows = json.loads(Path(options.rows).read_text())
    if options.one == "ours":
        keep_freed_memory()  # as the program does
    with tempfile.TemporaryDirectory() as folder:
        trainer = trainer_of(options.one, rows, options.batch, folder)
        started, processor = time.perf_counter(), time.process_time()
        trainer.train()
        seconds, processor = time.perf_counter() - started, time.process_time() - processor
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        figures = measured(seconds, sum(len(row["input_ids"]) for row in rows))
        loss, norm = compared(trainer_of(options.one, rows[:COMPARED], COMPARED, folder))
    return {
        **figures,
        "processor_seconds": round(processor, 2),
        "steps": trainer.state.global_step,
        "losses": losses[:4],
        "compared_loss": loss,
        "compared_norm": norm,
        "matrix_gflops": round(matrix_rate(), 1),
    }


def trainer_of(name: str, rows: list[dict], batch: int, folder: str) -> Any:
    """A contestant's trainer of a fresh model on these rows."""
    import numpy as np
    import torch
    from datasets import Dataset
    from transformers import AutoTokenizer, SmolLM3Config, SmolLM3ForCausalLM
    from trl import SFTConfig, SFTTrainer

    torch.manual_seed(0)
    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
    model = SmolLM3ForCausalLM(SmolLM3Config(vocab_size=VOCABULARY, pad_token_id=0, **SHAPE, **heads))
    arguments = SFTConfig(
        output_dir=folder, max_length=MAX_LENGTH, use_cpu=True, bf16=False, num_train_epochs=1,
        per_device_train_batch_size=batch, gradient_accumulation_steps=1, gradient_checkpointing=False,
        report_to="none", save_strategy="no", logging_steps=1, dataloader_pin_memory=False, disable_tqdm=True,
        packing=name == "packed", dataset_kwargs={"skip_prepare_dataset": name != "packed"},
        remove_unused_columns=name != "ours",
    )  # fmt: skip
    given: dict[str, Any] = {
        "model": model,
        "args": arguments,
        "processing_class": AutoTokenizer.from_pretrained("recipes/tiny/base"),
    }
    if name != "ours":
        return SFTTrainer(train_dataset=Dataset.from_list(labelled(rows)), **given)

    from sft.packed_batch import PackedCollator
    from sft.train import PackedSFTTrainer
    from sft.which_path import use_trained_places

    data = Dataset.from_list(packed(rows)).with_format("numpy", dtype=np.int32)
    trainer = PackedSFTTrainer(train_dataset=data, data_collator=PackedCollator(0), **given)
    trainer.count_from(None)
    assert not use_trained_places(trainer)
    return trainer


def labelled(rows: list[dict]) -> list[dict]:
    """Conversations as TRL takes tokenised ones."""
    from apo_soup.data.trained_ranges import labels_of

    return [
        {"input_ids": row["input_ids"], "labels": labels_of(row["input_ids"], row["trained"]).tolist()} for row in rows
    ]


def packed(rows: list[dict], longest: int = MAX_LENGTH) -> list[dict]:
    """Conversations as this project packs them into rows of at most `longest` tokens."""
    from apo_soup.data.packing import packed_sequences

    sequences = []
    for parts in packed_sequences([len(row["input_ids"]) for row in rows], longest, "bfd"):
        ids: list[int] = []
        ranges: list[int] = []
        for number, _, _ in parts:
            ranges += [len(ids) + place for place in rows[number]["trained"]]
            ids += rows[number]["input_ids"]
        lengths = [len(rows[number]["input_ids"]) for number, _, _ in parts]
        sequences.append({"input_ids": ids, "trained_ranges": ranges, "seq_lengths": lengths})
    return sequences


def compared(trainer: Any) -> tuple[float, float]:
    """The loss of all of a trainer's rows as one batch, and the norm of its gradients."""
    import torch

    batch = next(iter(trainer.get_train_dataloader()))
    trainer.model.train()
    items = (batch["labels"] != -100).sum()
    loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=items)
    loss.backward()
    norms = [parameter.grad.norm() for parameter in trainer.model.parameters() if parameter.grad is not None]
    return loss.item(), torch.stack(norms).norm().item()


def generated(count: int) -> list[dict]:
    """Conversations of random tokens with log-normal lengths of the means above, seeded; the longest are cut to fit."""
    generator = random.Random(0)
    lengths = {
        name: _of_mean([generator.lognormvariate(0, SPREAD) for _ in range(count)], mean)
        for name, mean in MEANS.items()
    }
    rows = []
    for prompt, answer in zip(*lengths.values(), strict=True):
        answer = min(answer, MAX_LENGTH - 64)
        prompt = min(prompt, MAX_LENGTH - answer)
        ids = [generator.randrange(5, VOCABULARY) for _ in range(prompt + answer)]
        rows.append({"input_ids": ids, "trained": [prompt, prompt + answer]})
    return rows


def tokenised(options: argparse.Namespace) -> list[dict]:
    """The first rows of a file, as tokens with the place of the trained ones."""
    from apo_soup.data.char_to_token import token_ranges
    from apo_soup.data.conversations.conversation import parse_conversation
    from apo_soup.data.rendering.trained_spans import Renderer
    from apo_soup.data.sources.read import read_all_rows
    from apo_soup.models.tokenizer import TokenizerKeys, encode, load_tokenizer

    tokenizer = load_tokenizer(options.tokenizer, "bench", TokenizerKeys("apo-soup"))
    renderer = Renderer(tokenizer)
    rows = []
    for row in read_all_rows(options.set, "bench")[: options.count]:
        rendered = renderer.conversation(parse_conversation(row.fields, {}))
        encoding = encode(tokenizer, [rendered.text])[0]
        ((first, last),) = token_ranges(encoding.offsets, rendered.spans)
        if first < MAX_LENGTH:
            rows.append({"input_ids": encoding.ids[:MAX_LENGTH], "trained": [first, min(last, MAX_LENGTH)]})
    return rows


if __name__ == "__main__":
    main()
