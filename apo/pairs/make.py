"""Synthetic preference pairs: a strong model's right answers over a weak model's wrong ones.

    python -m apo.pairs --config recipes/tiny/pairs.yaml

Both models answer the same prompts in the same mode; a verifier compares each answer with the prompt's reference.
Chosen is a finished, right answer of the strong side that keeps the mode; rejected is a wrong one of the weak side.
Every prompt ends as a pair or in `drops.jsonl` with the reason. A share of the prompts is held out by a hash of the
prompt, so the held-out pairs stay the same when settings change.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from corpus.conversation import checked_messages, template_kwargs
from corpus.generate import Completion, Sampling, generate
from corpus.mask import Renderer
from corpus.rows import RowError, read_all
from corpus.tokenizer import load_tokenizer
from corpus.verify import obeys, verifier
from pipeline.errors import UserError
from pipeline.hashing import hash_value
from pipeline.recipe import Recipe
from pipeline.stage import Stage
from pipeline.table import clock


def held_out(prompt: str, part: float) -> bool:
    """Whether a prompt belongs to the held-out share, decided by its text alone."""
    return int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") / 2**64 < part


def answers(recipe: Recipe, side: str, prompts: list[dict[str, Any]]) -> tuple[list[list[Completion]], dict[str, Any]]:
    """`candidates` completions a prompt by one side's model, and what was asked of it."""
    values, settings = recipe.values, recipe.need(side)
    where = recipe.where(side)
    tokenizer = load_tokenizer(settings["model"], where, revision=settings.get("revision"))
    renderer = Renderer(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(
        settings["model"], revision=settings.get("revision"), dtype="auto"
    ).eval()
    if torch.cuda.is_available():
        model = model.to("cuda")
    think = values["mode"] == "think"
    texts = [
        renderer.prompt(row["messages"], {**template_kwargs(row, {}), "enable_thinking": think})
        for row in prompts
        for _ in range(values.get("candidates", 1))
    ]
    sampling = Sampling(
        values.get("max_new_tokens", 256),
        settings.get("temperature", 0.6),
        settings.get("top_p", 1.0),
        values.get("seed", 0),
    )
    started = time.monotonic()

    told = 0.0

    def progress(done: int) -> None:
        nonlocal told
        now = time.monotonic()
        if now - told > 5 or done == len(texts):
            told, rate = now, done / (now - started)
            print(
                f"pairs: {side} {done}/{len(texts)} answers  {rate:.1f}/s  {clock((len(texts) - done) / rate)} left",
                flush=True,
            )

    found = generate(model, tokenizer, texts, sampling, values.get("batch_size", 32), progress)
    count = values.get("candidates", 1)
    grouped = [found[i : i + count] for i in range(0, len(found), count)]
    return grouped, {**settings, "template": hash_value(tokenizer.get_chat_template()), "engine": "transformers"}


def choose(
    row: dict[str, Any], strong: list[Completion], weak: list[Completion], think: bool, right: Any
) -> tuple[Completion, Completion] | str:
    """A right and a wrong answer to one prompt, or the reason there is none."""
    reference = str(row["answer"])
    good = [c for c in strong if c.finished and obeys(c.text, think) and right(c.text, reference)]
    if not good:
        return "no strong answer is finished, in mode and right"
    bad = [c for c in weak if c.finished and obeys(c.text, think) and not right(c.text, reference)]
    if not bad:
        return "no weak answer is finished, in mode and wrong"
    return good[0], bad[0]


def pair_row(
    row: dict[str, Any], chosen: Completion, rejected: Completion, think: bool, provenance: dict[str, Any]
) -> dict[str, Any]:
    """A preference row with where it came from."""
    tokens = {"chosen": chosen.tokens, "rejected": rejected.tokens}
    return {
        "prompt": row["messages"],
        "chosen": [{"role": "assistant", "content": chosen.text}],
        "rejected": [{"role": "assistant", "content": rejected.text}],
        "chat_template_kwargs": {**template_kwargs(row, {}), "enable_thinking": think},
        "provenance": {**provenance, "reference": row["answer"], "tokens": tokens},
    }


def read_prompts(file: str, limit: int | None, where: str, right: Callable[[str, str], bool]) -> list[dict[str, Any]]:
    """Prompt rows with `messages` and `answer`; raises UserError with file and line where one is missing."""
    rows = read_all(file, where)[:limit]
    for row in rows:
        for name in ("messages", "answer"):
            if name not in row.fields:
                raise UserError(f"{row.place}: field {name} is missing; a prompt row has messages and answer")
        try:
            checked_messages(row.fields["messages"], "messages")
            template_kwargs(row.fields, {})
            right("0", str(row.fields["answer"]))  # a reference the verifier cannot read fails before hours of asking
        except RowError as error:
            raise UserError(f"{row.place}: {error}") from error
    return [row.fields for row in rows]


def make_pairs(recipe: Recipe, stage: Stage) -> None:
    """Ask both sides, keep right over wrong, write `train.jsonl`, `test.jsonl` and `drops.jsonl`."""
    values = recipe.values
    if values.get("mode") not in ("think", "no_think"):
        raise UserError(f"{recipe.where('mode')}: mode must be think or no_think, found {values.get('mode')!r}")
    think, seed = values["mode"] == "think", values.get("seed", 0)
    right = verifier(values.get("verifier", "number"), recipe.where("verifier"))
    prompts = read_prompts(recipe.need("prompts"), values.get("limit"), recipe.where("prompts"), right)
    final = stage.begin() / "final"
    strong, strong_told = answers(recipe, "strong", prompts)
    weak, weak_told = answers(recipe, "weak", prompts)

    files: dict[str, list[dict[str, Any]]] = {"train": [], "test": [], "drops": []}
    reasons: Counter[str] = Counter()
    for number, (row, good, bad) in enumerate(zip(prompts, strong, weak, strict=True)):
        picked = choose(row, good, bad, think, right)
        if isinstance(picked, str):
            reasons[picked] += 1
            files["drops"].append({"prompt": number, "reason": picked})
            continue
        provenance = {"prompt": number, "strong": strong_told, "weak": weak_told, "seed": seed}
        text = json.dumps(row["messages"], ensure_ascii=False)
        split = "test" if held_out(text, values.get("test_share", 0.0)) else "train"
        files[split].append(pair_row(row, *picked, think, provenance))
    kept = files["train"] + files["test"]
    if not kept:
        raise UserError(f"{recipe.path}: no pair could be made of {len(prompts)} prompts: {dict(reasons)}")

    final.mkdir(exist_ok=True)
    for name, rows in files.items():
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (final / f"{name}.jsonl").write_text(text, encoding="utf-8")
    lengths = [row["provenance"]["tokens"] for row in kept]
    counts = {"kept for training": len(files["train"]), "kept for test": len(files["test"]), **reasons}
    means = {side: round(sum(n[side] for n in lengths) / len(kept), 1) for side in ("chosen", "rejected")}
    metrics = {"prompts": len(prompts), "counts": counts, "mean_tokens": means}
    stage.finish(final, metrics)
    print(
        f"pairs: {len(kept)} of {len(prompts)} prompts became pairs; "
        + "; ".join(f"{v} {k}" for k, v in counts.items())
    )
