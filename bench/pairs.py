"""Making pairs: batched generation against one prompt at a time, and our client against a plain load generator.

    python -m bench.pairs [--prompts 48] [--tokens 64] [--concurrency 8] [--repeats 3] [--threads 1]

Local: the transformers engine on a 17 M-parameter SmolLM3 with random weights (speed needs no others), batches of 32
against batches of one. Endpoint: `transformers serve` with a small model; the plain load generator posts the same
requests with as many under way and keeps nothing. Both are asked in turn, and medians are compared. With `--tokens 4` a
request takes milliseconds of the server, so that a slow client shows.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from apo.pairs.side import AskedSide
from apo_soup.config.sides import OpenaiSide, TransformersSide
from apo_soup.models.completion import Sampling
from bench.figures import command, save

SHAPE: dict[str, Any] = {"hidden_size": 256, "intermediate_size": 768, "num_hidden_layers": 6}
SMALL: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
WORDS = "the train leaves at eight and comes to town in late afternoon with all of its cars full".split()


def main() -> None:
    """Parse, measure both, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", default="bench/results/pairs.json")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        figures = {"local": local(options, Path(folder)), "endpoint": endpoint(options, Path(folder))}
    for name, found in figures.items():
        (one, two), rates = found["names"], found["tokens_per_second"]
        print(
            f"{name:9} {two} {rates[two]:,.0f} tokens/s, {one} {rates[one]:,.0f}: {rates[two] / rates[one]:.2f} times"
        )
    save(options.output, {"command": command(options, "pairs"), **figures})


def local(options: argparse.Namespace, folder: Path) -> dict:
    """Tokens a second of the transformers engine, one prompt at a time and in batches."""
    from apo.pairs.engines.transformers import TransformersEngine

    model = random_model(folder / "model", SHAPE)
    prompts = generated(options.prompts)

    def run(batch_size: int) -> float:
        side = transformers_side(str(model), batch_size, options)
        assert isinstance(side.keys, TransformersSide)
        engine = TransformersEngine(side, side.keys)
        answers: list = []
        started = time.perf_counter()
        engine.answer(prompts, (), answers.extend)
        seconds = time.perf_counter() - started
        return sum(c.tokens or 0 for a in answers for c in a.completions) / seconds

    return in_turn({"one at a time": lambda: run(1), "batches of 32": lambda: run(32)}, options.repeats)


def endpoint(options: argparse.Namespace, folder: Path) -> dict:
    """Tokens a second of a real server under a plain load generator and under our client, journal included."""
    from apo.pairs.engines.endpoint import EndpointEngine
    from apo.pairs.journal import Journal
    from bench.serving import Server

    model = random_model(folder / "small", SMALL)
    prompts = generated(options.prompts * 4)
    server = Server(model)
    served = {"model": str(model), "base_url": server.url, "timeout": 60.0, "retries": 0}
    keys = OpenaiSide(**served, concurrency=options.concurrency)
    asked = bench_side(keys, options)

    def ours() -> float:
        started = time.perf_counter()
        with Journal(folder / f"answers-{started}.jsonl") as journal:
            EndpointEngine(asked, keys).answer(prompts, (), journal.add)
            seconds = time.perf_counter() - started
            return sum(c.tokens or 0 for a in journal.answers.values() for c in a.completions) / seconds

    try:
        asyncio.run(load(asked, prompts[:8]))  # the first requests load the model
        return in_turn({"load generator": lambda: asyncio.run(load(asked, prompts)), "ours": ours}, options.repeats)
    finally:
        server.kill()


async def load(side: AskedSide, prompts: list) -> float:
    """Post the same requests, `concurrency` at a time, and count the tokens told; nothing is kept."""
    import httpx2

    assert isinstance(side.keys, OpenaiSide)
    tokens, waiting, keys, sampling = 0, iter(prompts), side.keys, side.sampling

    async def work(client: httpx2.AsyncClient) -> None:
        nonlocal tokens
        for prompt in waiting:
            body = {
                "model": keys.model, "messages": prompt.messages, "max_tokens": sampling.max_new_tokens,
                "temperature": sampling.temperature, "top_p": sampling.top_p, "seed": side.request_seed(prompt.id, 0),
                "chat_template_kwargs": prompt.kwargs,
            }  # fmt: skip
            reply = await client.post(f"{keys.base_url}/chat/completions", json=body)
            tokens += reply.json()["usage"]["completion_tokens"]

    started = time.perf_counter()
    async with httpx2.AsyncClient(timeout=60) as client:
        await asyncio.gather(*(work(client) for _ in range(keys.concurrency)))
    return tokens / (time.perf_counter() - started)


def in_turn(contestants: dict, repeats: int) -> dict:
    """Medians of several turns, so that noise of the machine falls on both."""
    runs: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name, run in contestants.items():
            runs[name].append(round(run(), 1))
            print(f"{name:15} {runs[name][-1]:,.0f} tokens/s", flush=True)
    return {
        "names": list(contestants),
        "runs": runs,
        "tokens_per_second": {n: statistics.median(r) for n, r in runs.items()},
    }


def transformers_side(model: str, batch_size: int, options: argparse.Namespace) -> AskedSide:
    """The strong side of a pairs file with a model in this process."""
    return bench_side(TransformersSide(model=model), options, batch_size)


def bench_side(keys: TransformersSide | OpenaiSide, options: argparse.Namespace, batch_size: int = 1) -> AskedSide:
    """The strong side of a pairs file with these keys, sampled at temperature 1."""
    return AskedSide("strong", "bench", keys, Sampling(options.tokens, 1.0), 1, batch_size)


def generated(count: int) -> list:
    """Prompts of 5 to 60 words."""
    from apo.pairs.prompts import Prompt

    texts = [f"{n}: " + " ".join(WORDS[(n + i) % len(WORDS)] for i in range(5 + n * 37 % 56)) for n in range(count)]
    return [
        Prompt(f"p{n}", [{"role": "user", "content": t}], {"enable_thinking": False}, None, f"bench:{n}")
        for n, t in enumerate(texts)
    ]


def random_model(folder: Path, shape: dict) -> Path:
    """A random SmolLM3 of this shape with the embedded recipe's tokenizer."""
    import torch
    from transformers import AutoTokenizer, SmolLM3Config, SmolLM3ForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained("recipes/tiny/base")
    heads: dict[str, Any] = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True}
    ids: dict[str, Any] = {
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
    model = SmolLM3ForCausalLM(SmolLM3Config(vocab_size=len(tokenizer), **shape, **heads, **ids))
    model.generation_config.update(do_sample=True, top_k=0)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


if __name__ == "__main__":
    main()
