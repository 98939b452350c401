"""Synthetic preference pairs: a strong model's answers over a weak model's, on the same prompts.

    python -m apo.pairs --config recipes/tiny/pairs.yaml

SmolLM3's think pairs are Qwen3-32B's answers chosen over Qwen3-0.6B's. Here both sides answer the prompts in one mode,
`candidates` times each; `apo/pairs/judge.py` filters the answers, verifies them where a row has a reference, and picks
the two that make the best pair. Every prompt ends as a pair or in `drops.jsonl` with the reason.

Answers are kept as they come (`apo/pairs/journal.py`), under a key of what they depend on: model, engine, sampling and
prompts. A killed run goes on where it was, and another filter, verifier or choice asks nothing again.
"""

import hashlib
import importlib.util
import json
from collections import Counter
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from apo.pairs.engines import Side, check_engine, make_engine
from apo.pairs.journal import Answer, Journal
from apo.pairs.judge import Choice, Filters, Judged, choose, judge, language, unbalanced
from apo.pairs.prompts import Prompt, Prompts, read_prompts
from apo.pairs.stage import rendering_code
from apo_soup.config.recipe import Recipe
from apo_soup.errors import UserError, told_by_library
from apo_soup.hashing import hash_value
from apo_soup.progress import Progress
from apo_soup.runs.inputs import template_text
from apo_soup.runs.stage import Stage, redacted
from apo_soup.tables import text_table
from apo_soup.verify.answers import Verifier, verifier

SIDES = ("strong", "weak")
# Settings of a side that the file may give once for both, and what they are when nobody gives them.
SHARED = {"temperature": 0.6, "top_p": 1.0, "top_k": 0, "min_p": 0.0, "max_new_tokens": 256, "candidates": 1, "seed": 0}
LOCAL = {"batch_size": 32}
ENDPOINT = {"concurrency": 32, "timeout": 600.0, "retries": 6, "send_template_kwargs": True}


def make_pairs(recipe: Recipe, stage: Stage) -> None:
    """Ask both sides, judge, choose, and put `train`, `test` and `drops` into place."""
    values = recipe.values
    right = verifier(values["verifier"], recipe.where("verifier")) if values.get("verifier") else None
    prompts = read_prompts(recipe, right)
    check_prompts(recipe, prompts, right)
    stage.folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(stage.folder.parent / f".{stage.folder.name}.lock", timeout=0)
    try:
        held = lock.acquire()
    except Timeout as error:
        raise UserError(f"another process is making {stage.folder}; it holds {lock.lock_file}") from error
    with held:
        made(recipe, stage, prompts, right)


def made(recipe: Recipe, stage: Stage, prompts: Prompts, right: Verifier | None) -> None:
    """Answers, pairs and the finished folder, by the one process that holds the folder's lock."""
    values = recipe.values
    final = stage.begin() / "final"
    final.mkdir(exist_ok=True)
    sides = [side_of(recipe, name) for name in SIDES]
    # What the file gets wrong is told before anything is asked.
    filters, choice = filters_of(recipe), choice_of(recipe, right)
    for side in sides:
        check_engine(side)
    answers = {side.name: ask(side, prompts.usable, stage) for side in sides}

    drops = [{"row": place, "reason": reason} for place, reason in prompts.duplicates]
    reasons: Counter[str] = Counter({"duplicate prompt": len(drops)} if drops else {})
    pairs: list[tuple[Prompt, Judged, Judged]] = []
    for prompt in prompts.usable:
        strong, weak = (judged(answers[name][prompt.id], prompt, filters, right) for name in SIDES)
        picked = choose(strong, weak, choice, filters.near)
        if isinstance(picked, str):
            refused = next((a[prompt.id].problem for a in answers.values() if a[prompt.id].problem), None)
            reasons["refused by an engine" if refused else picked] += 1
            drops.append(drop_row(prompt, refused or picked, strong, weak))
        else:
            pairs.append((prompt, *picked))
    if values.get("length_balance"):
        lengths = [(chosen.completion.tokens, rejected.completion.tokens) for _, chosen, rejected in pairs]
        out = unbalanced(lengths, values["length_balance"])
        reasons["length balance"] += len(out)
        drops += [drop_row(pairs[n][0], "length balance", [pairs[n][1]], [pairs[n][2]]) for n in sorted(out)]
        pairs = [pair for n, pair in enumerate(pairs) if n not in out]
    if not pairs:
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        raise UserError(f"{recipe.path}: no pair could be made of {len(prompts.usable)} prompts: {told}")

    told_of = {side.name: provenance(side, stage) for side in sides}
    rows: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for pair in pairs:
        split = "test" if held_out(pair[0], values.get("test_share", 0.0)) else "train"
        servers = {side: found[pair[0].id].server for side, found in answers.items()}
        rows[split].append(pair_row(*pair, told_of, servers))
    for name, found in rows.items():
        write_rows(final / name, found, values.get("format", "jsonl"))
    write_rows(final / "drops", drops, "jsonl")
    write_rows(final / "rejects", [{"row": place, "reason": reason} for place, reason in prompts.rejected], "jsonl")
    metrics = measured(prompts, pairs, reasons, answers) | {split: len(found) for split, found in rows.items()}
    stage.finish(final, metrics)
    print(show(metrics))


def check_prompts(recipe: Recipe, prompts: Prompts, right: Verifier | None) -> None:
    """Enough usable prompts, and references where a verifier is to judge by them; what is rejected is listed."""
    values = recipe.values
    rejected, total = len(prompts.rejected), len(prompts.rejected) + len(prompts.usable)
    if not total:
        raise UserError(f"{recipe.where('prompts')}: the sources hold no row")
    if rejected > values.get("max_reject_share", 0.01) * total:
        place, reason = prompts.rejected[0]
        raise UserError(
            f"{recipe.where('prompts')}: {rejected} of {total} rows are no prompt, more than max_reject_share "
            f"{values.get('max_reject_share', 0.01)}; the first is {place}: {reason}"
        )
    if right and all(p.reference is None for p in prompts.usable):
        name = values.get("reference", "answer")
        raise UserError(
            f"{recipe.where('verifier')}: no prompt has a field {name} to verify answers by; name it with reference, "
            "or leave verifier out"
        )


def side_of(recipe: Recipe, name: str) -> Side:
    """One side's settings, complete."""
    own = recipe.need(name)
    engine = own.get("engine") or ("openai" if "base_url" in own else "transformers")
    shared = {k: recipe.values.get(k, default) for k, default in SHARED.items()}
    if engine == "openai":
        beside = ENDPOINT
    elif engine == "transformers":
        beside = {k: recipe.values.get(k, default) for k, default in LOCAL.items()}
    else:
        beside = {}
    return Side(name, recipe.where(name), {**shared, **beside, **own, "engine": engine})


def ask(side: Side, prompts: list[Prompt], stage: Stage) -> dict[str, Answer]:
    """One side's answers to all prompts, from the journal where they are there already.

    Raises:
        UserError: another process is asking this side now.
    """
    file = journal_file(side, prompts, stage)
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{file}.lock", timeout=0), Journal(file) as journal:
            missing = len({p.id for p in prompts} - journal.done)
            if missing < len(prompts):
                print(f"pairs: {side.name}: {len(prompts) - missing:,} of {len(prompts):,} answered already ({file})")
            if missing:
                ask_missing(side, prompts, journal, missing)
            return {p.id: journal.answers[p.id] for p in prompts}
    except Timeout as error:
        raise UserError(f"another process is asking the {side.name} side; it holds {file}.lock") from error


def ask_missing(side: Side, prompts: list[Prompt], journal: Journal, missing: int) -> None:
    """Ask what the journal does not hold, with progress."""
    engine = make_engine(side)
    progress = Progress(f"pairs: {side.name}", "prompts", missing)
    done = tokens = 0

    def keep(answers: list[Answer]) -> None:
        nonlocal done, tokens
        journal.add(answers)
        done += len(answers)
        tokens += sum(c.tokens for a in answers for c in a.completions)
        progress.at(done, f"{tokens / progress.seconds:,.0f} tokens/s")

    try:
        engine.answer(prompts, journal.done, keep)
    finally:
        engine.close()
        progress.end()
    print(
        f"pairs: {side.name}: {done:,} prompts, {tokens:,} tokens in {progress.seconds:.1f} s "
        f"({tokens / progress.seconds:,.0f} tokens/s)"
    )


def journal_file(side: Side, prompts: list[Prompt], stage: Stage) -> Path:
    """Where a side's answers are kept: named by all that decides them.

    For transformers the prompts are part of it, because a batch, and so what is drawn in it, is made of all of them.
    The other engines draw every prompt by itself.
    """
    content = {
        "side": side.name,
        "model": stage.inputs[side.name],
        "settings": {k: v for k, v in side.settings.items() if k not in COSMETIC_SETTINGS},
        "template": template_text(side.settings.get("chat_template"), side.where),
        "code": None if side.engine == "openai" else rendering_code(),
        "prompts": [p.id for p in prompts] if side.engine == "transformers" else None,
    }
    return stage.folder.parent / "answers" / f"{side.name}-{hash_value(content)[:16]}.jsonl"


COSMETIC_SETTINGS = ("model", "concurrency", "requests_per_minute", "timeout", "retries", "api_key_env", "base_url")


def filters_of(recipe: Recipe) -> Filters:
    given = recipe.values.get("filters") or {}
    if given.get("language") and importlib.util.find_spec("py3langid") is None:
        raise UserError(
            f"{recipe.where('filters.language')}: telling languages needs py3langid; pip install 'apo-soup[language]'"
        )
    languages = given.get("languages")
    if languages:
        with told_by_library(recipe.where("filters.languages"), (ValueError,)):
            language("", tuple(languages))
    return Filters(recipe.values["mode"] == "think", **{**given, "languages": tuple(languages) if languages else None})


def choice_of(recipe: Recipe, right: Verifier | None) -> Choice:
    values = recipe.values
    keep = values.get("keep") or ("right_over_wrong" if right else "strong_over_weak")
    return Choice(keep, values.get("tie_break", "first"), bool(values.get("length_balance")))


def judged(answer: Answer, prompt: Prompt, filters: Filters, right: Verifier | None) -> list[Judged]:
    return [judge(completion, prompt, filters, right) for completion in answer.completions]


def held_out(prompt: Prompt, share: float) -> bool:
    """Whether a prompt is held out, decided by its words alone, so that it stays so when settings change."""
    text = json.dumps(prompt.messages, ensure_ascii=False)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big") / 2**64 < share


def provenance(side: Side, stage: Stage) -> dict[str, Any]:
    """Who answered and how: model with its content hash or commit, engine, sampling, seed, template."""
    keys = ("model", "revision", "engine", "temperature", "top_p", "top_k", "min_p", "max_new_tokens", "candidates",
            "seed", "dtype", "batch_size", "send_template_kwargs")  # fmt: skip
    told = {k: side.settings[k] for k in keys if side.settings.get(k) is not None}
    template = None
    if side.engine != "openai":
        from apo.pairs.engines import side_tokenizer

        template = hash_value(side_tokenizer(side).get_chat_template())
    # Written as text: a table needs the same type in every row, and both sides have these of their own.
    given = redacted({k: side.settings[k] for k in ("extra_body", "engine_kwargs") if side.settings.get(k)})
    told |= {k: json.dumps(v) for k, v in given.items()}
    return {**told, "content": stage.inputs[side.name], "template": template or "the server's own"}


def pair_row(
    prompt: Prompt, chosen: Judged, rejected: Judged, sides: dict[str, dict[str, Any]], servers: dict[str, str | None]
) -> dict[str, Any]:
    """A preference row with where it came from."""
    verdicts = {"chosen": chosen.score, "rejected": rejected.score}
    tokens = {"chosen": chosen.completion.tokens, "rejected": rejected.completion.tokens}
    return {
        "prompt": prompt.messages,
        "chosen": [{"role": "assistant", "content": chosen.completion.text}],
        "rejected": [{"role": "assistant", "content": rejected.completion.text}],
        "chat_template_kwargs": prompt.kwargs,
        "provenance": {
            "prompt": prompt.id,
            "row": prompt.place,
            "reference": prompt.reference,
            "verdicts": verdicts,
            "tokens": tokens,
            "servers": servers,
            **sides,
        },
    }


def drop_row(prompt: Prompt, reason: str, strong: list[Judged], weak: list[Judged]) -> dict[str, Any]:
    """A prompt without a pair, and what was found of each candidate."""
    faults = {
        name: [{"fault": j.fault, "score": j.score, "tokens": j.completion.tokens} for j in side]
        for name, side in (("strong", strong), ("weak", weak))
    }
    return {"prompt": prompt.id, "row": prompt.place, "reason": reason, **faults}


def write_rows(path: Path, rows: list[dict[str, Any]], kind: str) -> None:
    """Rows as `path.jsonl` or `path.parquet`; an empty list of rejects, drops or held-out rows leaves no file."""
    if not rows:
        return
    if kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist([as_table_row(row) for row in rows]), path.with_suffix(".parquet"))
        return
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.with_suffix(".jsonl").write_text(text, encoding="utf-8", errors="surrogatepass")


def as_table_row(row: dict[str, Any]) -> dict[str, Any]:
    """A row whose free mappings are JSON text, as a column of a table needs one shape; `apo_soup.data` reads either."""
    prompt = [
        {**m, "tool_calls": json.dumps(m["tool_calls"], ensure_ascii=False)} if m.get("tool_calls") else m
        for m in row["prompt"]
    ]
    return {
        **row,
        "prompt": prompt,
        "chat_template_kwargs": json.dumps(row["chat_template_kwargs"], ensure_ascii=False),
    }


def measured(
    prompts: Prompts,
    pairs: list[tuple[Prompt, Judged, Judged]],
    reasons: Counter[str],
    answers: dict[str, dict[str, Answer]],
) -> dict[str, Any]:
    """What came of the prompts, for the manifest and the table."""
    kept = len(pairs)
    verified = sum(chosen.right is True and rejected.right is False for _, chosen, rejected in pairs)
    lengths = [(c.completion.tokens, r.completion.tokens) for _, c, r in pairs]
    cost = {}
    for side, found in answers.items():
        written = sum(c.tokens for a in found.values() for c in a.completions)
        read = sum((a.asked_tokens or 0) * len(a.completions) for a in found.values())
        cost[side] = {"prompt_tokens": read, "completion_tokens": written}
    return {
        "prompts": len(prompts.usable) + len(prompts.duplicates),
        "rejected": len(prompts.rejected),
        "kept": kept,
        "drops": dict(reasons.most_common()),
        "mean_tokens": {
            side: round(sum(n) / kept, 1)
            for side, n in zip(("chosen", "rejected"), zip(*lengths, strict=True), strict=True)
        },
        "chosen_longer": round(sum(c > r for c, r in lengths) / kept, 4),
        "verified": round(verified / kept, 4),
        "cost": cost,
    }


def show(metrics: dict[str, Any]) -> str:
    """The table at the end."""
    kept, mean, cost = metrics["kept"], metrics["mean_tokens"], metrics["cost"]
    lines = [["prompts", f"{metrics['prompts']:,}", f"{metrics['rejected']:,} rows rejected"]]
    lines.append(["pairs kept", f"{kept:,}", f"{metrics['train']:,} train, {metrics['test']:,} test"])
    lines += [["dropped", f"{count:,}", reason] for reason, count in metrics["drops"].items()]
    lines.append(
        ["mean tokens chosen", f"{mean['chosen']:,}", f"longer than rejected in {metrics['chosen_longer']:.0%}"]
    )
    lines.append(["mean tokens rejected", f"{mean['rejected']:,}", ""])
    lines.append(["verified", f"{metrics['verified']:.0%}", "of the pairs are right over wrong"])
    for side, n in cost.items():
        lines.append([f"cost of {side}", f"{n['completion_tokens']:,}", f"tokens written, {n['prompt_tokens']:,} read"])
    return text_table(["pairs", "", ""], lines)
