"""Reasoning traces: a strong model's verified answers as rows for mid and sft.

    python -m apo.traces --config traces.yaml

The prompts are answered in one mode, `candidates` times each, by the engines of pairs. Answers are filtered, and
verified where a row has a reference, else scored by a judge where the file names one. Those that are right make rows;
every prompt ends in rows or in `drops.jsonl` with the reason.
"""

from collections import Counter
from dataclasses import asdict
from typing import Any

from apo.pairs.ask import side_answers
from apo.pairs.engines.engine import require_installed_engine
from apo.pairs.journal import Answer
from apo.pairs.judge import JudgedCompletion, judged_side
from apo.pairs.make import answer_filters, check_prompts
from apo.pairs.pair_rows import answer_turn, candidate_record, is_held_out, side_provenance, write_rows
from apo.pairs.prompts import Prompt, read_prompts
from apo.pairs.side import AskedSide, asked_judge, asked_side
from apo.pairs.summary import side_cost
from apo.pairs.verdicts import JudgeCount, with_scores
from apo.traces.choice import kept_traces, trace_choice
from apo_soup.config.traces import TracesFile
from apo_soup.errors import UserError
from apo_soup.progress import say, tell
from apo_soup.runs.stage import Stage
from apo_soup.tables import text_table
from apo_soup.verify.answers import verifier


def make_traces(recipe: TracesFile, stage: Stage) -> None:
    """Ask the strong side, judge, choose, and put `train`, `test` and `drops` into place.

    Raises:
        UserError: the prompts or the file are at fault, an engine fails for good, or
            no answer makes a row.
    """
    for note in recipe.notes:
        say(note)
    judge = verifier(recipe.verifier, recipe.place("verifier")) if recipe.verifier else None
    prompts = read_prompts(recipe, judge)
    check_prompts(recipe, prompts, judge)
    stage.begin()
    side, scorer, filters = asked_side(recipe, "strong"), asked_judge(recipe), answer_filters(recipe)
    for asked in [side, *([scorer] if scorer else [])]:
        require_installed_engine(asked)
    answers = side_answers(side, prompts.usable, stage)
    judged = judged_side(answers, prompts.usable, filters, judge)
    verdicts, unscored = JudgeCount(), None
    if scorer:
        scored, verdicts, unscored = with_scores(scorer, prompts.usable, {"strong": judged}, stage)
        judged = scored["strong"]
    choice = trace_choice(recipe)
    kept: list[tuple[Prompt, JudgedCompletion]] = []
    drops: list[dict[str, Any]] = [{"row": row, "reason": reason} for row, reason in prompts.duplicates]
    reasons = Counter({"duplicate prompt": len(drops)} if drops else {})
    for prompt in prompts.usable:
        outcome = kept_traces(judged[prompt.id], choice)
        if isinstance(outcome, str):
            refusal = answers[prompt.id].problem
            reasons["refused by an engine" if refusal else outcome] += 1
            candidates = [candidate_record(one) for one in judged[prompt.id]]
            reason = refusal or outcome
            drops.append({"prompt": prompt.id, "row": prompt.source_row, "reason": reason, "strong": candidates})
        else:
            kept += [(prompt, one) for one in outcome]
    if not kept:
        write_rows(stage.partial / "drops", drops, always=True)
        told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
        refusal = next((a.problem for a in answers.values() if a.problem), unscored)
        raise UserError(
            f"{recipe.path}: expected at least one trace, got none of {len(prompts.usable)} prompts ({told}"
            f"{f': {refusal}' if refusal else ''}); change what the reasons name, a prompt each in "
            f"{stage.partial / 'drops.jsonl'}"
        )
    sides = {"strong": side, **({"judge": scorer} if scorer else {})}
    splits = _split_rows(recipe, stage, kept, answers, sides)
    folder = stage.result_folder()
    for split, rows in splits.items():
        write_rows(folder / split, rows, recipe.format)
    write_rows(folder / "drops", drops, always=True)
    write_rows(folder / "rejects", [{"row": row, "reason": reason} for row, reason in prompts.rejected])
    lengths = [one.completion.length for _, one in kept]
    metrics: dict[str, Any] = {
        "prompts": len(prompts.usable) + len(prompts.duplicates),
        "rejected": len(prompts.rejected),
        "kept": len(kept),
        "prompts_with_traces": len({prompt.id for prompt, _ in kept}),
        "drops": dict(reasons.most_common()),
        "mean_tokens": round(sum(lengths) / len(kept), 1),
        "verified": round(sum(one.right is True for _, one in kept) / len(kept), 4),
        "cost": {"strong": side_cost(list(answers.values()))},
        **({"judge": asdict(verdicts)} if scorer else {}),
        **{split: len(rows) for split, rows in splits.items()},
    }
    stage.finish(folder, metrics)
    say(traces_table(metrics))
    tell(f"{stage.name}: {stage.folder} written; {len(kept):,} rows of {len(prompts.usable):,} prompts")


def _split_rows(
    recipe: TracesFile,
    stage: Stage,
    kept: list[tuple[Prompt, JudgedCompletion]],
    answers: dict[str, Answer],
    sides: dict[str, AskedSide],
) -> dict[str, list[dict[str, Any]]]:
    """The rows of the splits; all traces of a prompt are in one."""
    provenance = {name: side_provenance(side, stage) for name, side in sides.items()}
    splits: dict[str, list[dict[str, Any]]] = {"train": [], "test": []}
    for prompt, one in kept:
        split = "test" if is_held_out(prompt, recipe.test_share) else "train"
        splits[split].append(trace_row(prompt, one, answers[prompt.id].server, provenance))
    return splits


def trace_row(
    prompt: Prompt, judged: JudgedCompletion, server: str | None, sides: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """A conversation that ends with the trace, with its provenance; `sides` is that of the side and of the judge."""
    return {
        "messages": [*prompt.messages, answer_turn(judged.completion)],
        "chat_template_kwargs": prompt.kwargs,
        "provenance": {
            "prompt": prompt.id,
            "row": prompt.source_row,
            "reference": prompt.reference,
            "verdict": judged.score,
            **({"score": judged.judge_score} if "judge" in sides else {}),
            "tokens": judged.completion.tokens,
            "server": server,
            **sides,
        },
    }


def traces_table(metrics: dict[str, Any]) -> str:
    """The figures of a traces folder as a table."""
    judge, cost = metrics.get("judge"), metrics["cost"]["strong"]
    scores = [["judge", f"{judge['asked']:,}", f"answers, {judge['without_score']:,} without score"]] if judge else []
    return text_table(
        ["traces", "", ""],
        [
            ["prompts", f"{metrics['prompts']:,}", f"{metrics['rejected']:,} rows rejected"],
            ["rows kept", f"{metrics['kept']:,}", f"of {metrics['prompts_with_traces']:,} prompts"],
            ["", f"{metrics['train']:,}", f"train, {metrics['test']:,} test"],
            *(["dropped", f"{count:,}", reason] for reason, count in metrics["drops"].items()),
            ["mean tokens", f"{metrics['mean_tokens']:,}", ""],
            ["verified", f"{metrics['verified']:.0%}", "of the rows are right by the verifier"],
            *scores,
            ["cost", f"{cost['completion_tokens']:,}", f"tokens written, {cost['prompt_tokens']:,} read"],
        ],
    )
