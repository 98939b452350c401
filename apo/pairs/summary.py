"""What came of the prompts: the figures of the manifest, and the table at the end."""

from typing import Any

from apo.pairs.control_tokens import without_control_ends
from apo.pairs.journal import Answer
from apo.pairs.prompts import PromptSet
from apo.pairs.selection import Selection
from apo_soup.tables import text_table


def pair_metrics(prompts: PromptSet, selection: Selection, answers: dict[str, dict[str, Answer]]) -> dict[str, Any]:
    """Counts of prompts, rows, pairs and drops, mean lengths and cost in tokens, and shares from 0 to 1.

    Args:
        selection: with at least one pair.
        answers: each side's answers by prompt id.
    """
    pairs, kept = selection.pairs, len(selection.pairs)
    verified = sum(pair.chosen.right is True and pair.rejected.right is False for pair in pairs)
    chosen, rejected = zip(*(pair.lengths for pair in pairs), strict=True)
    return {
        "prompts": len(prompts.usable) + len(prompts.duplicates),
        "rejected": len(prompts.rejected),
        "kept": kept,
        "drops": dict(selection.reasons.most_common()),
        "mean_tokens": {"chosen": round(sum(chosen) / kept, 1), "rejected": round(sum(rejected) / kept, 1)},
        "chosen_longer": round(sum(c > r for c, r in zip(chosen, rejected, strict=True)) / kept, 4),
        "verified": round(verified / kept, 4),
        "ends_taken_off": sum(
            without_control_ends(c.text) != c.text for a in answers.values() for o in a.values() for c in o.completions
        ),
        "cost": {side: side_cost(list(by_prompt.values())) for side, by_prompt in answers.items()},
    }


def side_cost(answers: list[Answer]) -> dict[str, int]:
    """Tokens that one side read and wrote, and how many answers there are whose tokens nobody counted."""
    completions = [c for a in answers for c in a.completions]
    unknown = sum(c.tokens is None for c in completions)
    return {
        "prompt_tokens": sum((a.asked_tokens or 0) * len(a.completions) for a in answers),
        "completion_tokens": sum(c.tokens or 0 for c in completions),
        **({"answers_without_tokens": unknown} if unknown else {}),
    }


def summary_table(metrics: dict[str, Any]) -> str:
    """The figures of `pair_metrics`, with the counts of the splits `train` and `test`, as a table."""
    kept, mean, cost = metrics["kept"], metrics["mean_tokens"], metrics["cost"]
    ends = metrics["ends_taken_off"]
    longer = f"longer than rejected in {metrics['chosen_longer']:.0%}"
    return text_table(
        ["pairs", "", ""],
        [
            ["prompts", f"{metrics['prompts']:,}", f"{metrics['rejected']:,} rows rejected"],
            ["pairs kept", f"{kept:,}", f"{metrics['train']:,} train, {metrics['test']:,} test"],
            *(["dropped", f"{count:,}", reason] for reason, count in metrics["drops"].items()),
            ["mean tokens chosen", f"{mean['chosen']:,}", longer],
            ["mean tokens rejected", f"{mean['rejected']:,}", ""],
            ["verified", f"{metrics['verified']:.0%}", "of the pairs are right over wrong"],
            *([["ends taken off", f"{ends:,}", "answers, of control tokens behind them"]] if ends else []),
            *([f"cost of {side}", f"{n['completion_tokens']:,}", _cost_words(n)] for side, n in cost.items()),
        ],
    )


def _cost_words(cost: dict[str, int]) -> str:
    """What stands behind the tokens that a side wrote."""
    unknown = cost.get("answers_without_tokens")
    return f"tokens written, {cost['prompt_tokens']:,} read" + (f"; unknown of {unknown:,} answers" if unknown else "")
