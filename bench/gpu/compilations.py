"""Part 2: how often anything is compiled over rows of different lengths."""

import random
import time
from typing import Any

import torch
from torch._dynamo.utils import counters

from apo.packed_pairs import PairIds, pack_pairs
from apo.scoring import add_scoring, answer_logprobs
from bench.gpu.work import Size, device_here, random_model, settle


def compilations(size: Size) -> dict[str, Any]:
    """Graphs compiled while `size.rows` rows of pairs go forward and backward, and the seconds of the slowest ten.

    On a CPU under SDPA, where nothing is compiled: FlexAttention has no gradients there.
    """
    gpu = device_here().type == "cuda"
    attention = "flex_attention" if gpu else "sdpa"
    model: Any = random_model(size.small, attention, torch.float32)
    add_scoring(model)
    model.train()
    generator = random.Random(0)
    torch._dynamo.reset()
    counters.clear()
    lengths, seconds = set(), []
    for _ in range(size.rows):
        pairs = [pair(generator, size) for _ in range(generator.randint(1, 6))]
        row = pack_pairs(pairs).to(device_here())
        lengths.add(len(row))
        settle()
        begun = time.perf_counter()
        with torch.autocast(device_here().type, torch.bfloat16):
            logps = answer_logprobs(model, row, attention)
        logps.sum().backward()
        settle()
        seconds.append(time.perf_counter() - begun)
    return {
        "rows": size.rows,
        "lengths": len(lengths),
        "graphs": counters["stats"].get("unique_graphs", 0),
        "slowest_seconds": sorted((round(second, 3) for second in seconds), reverse=True)[:10],
        "median_seconds": sorted(seconds)[len(seconds) // 2],
    }


def pair(generator: random.Random, size: Size) -> PairIds:
    """Three parts of random tokens, of any length up to a twentieth of the longest row."""
    most = max(4, size.compared // 20)
    vocabulary = size.small["vocab_size"]
    return PairIds(*([generator.randrange(5, vocabulary) for _ in range(generator.randint(2, most))] for _ in range(3)))
