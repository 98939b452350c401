"""Which two of a prompt's answers make its pair, and which pairs keep the lengths of both sides balanced."""

import math
from collections import Counter
from dataclasses import dataclass

from apo.pairs.judge import JudgedCompletion
from apo_soup.data.words import INVISIBLE, WORD, shingles


@dataclass(frozen=True)
class PairChoice:
    """How a pair is chosen among the candidates that pass the filters.

    `keep` is right_over_wrong, right_over_any or strong_over_weak; `tie_break` orders candidates of one score: first,
    shortest or longest. With `balanced`, the two that are closest in length are taken among those of the best and the
    worst score. `near` is the share of runs of five words from which two answers are too near to make a pair. A
    judge must score the chosen answer above the rejected one, by `margin` or more.
    """

    keep: str
    tie_break: str = "first"
    balanced: bool = False
    near: float | None = None
    margin: float = 0.0


def chosen_and_rejected(
    strong: list[JudgedCompletion], weak: list[JudgedCompletion], choice: PairChoice
) -> tuple[JudgedCompletion, JudgedCompletion] | str:
    """The chosen and the rejected answer of one prompt, or the reason there is no pair."""
    good = [j for j in strong if j.failed_filter is None]
    bad = [j for j in weak if j.failed_filter is None]
    for side, passed, candidates in (("strong", good, strong), ("weak", bad, weak)):
        if not passed:
            return f"{side}: {most_common_failure(candidates)}"
    if choice.keep != "strong_over_weak":
        good = [j for j in good if j.right is not False]
        if not good:
            return "strong: wrong"
    if choice.keep == "right_over_wrong":
        bad = [j for j in bad if j.right is not True]
        if not bad:
            return "weak: right too"
    pairs = [(c, r) for c in good for r in bad if comparable_text(c) != comparable_text(r)]
    if not pairs:
        return "both sides are the same"
    pairs = [(c, r) for c, r in pairs if c.score is None or r.score is None or c.score >= r.score]
    if not pairs:
        return "weak: better than strong"
    pairs = [(c, r) for c, r in pairs if _beats(c, r, choice.margin)]
    if not pairs:
        return "judge: no margin"
    if choice.near is not None:
        pairs = [(c, r) for c, r in pairs if shingle_similarity(comparable_text(c), comparable_text(r)) < choice.near]
        if not pairs:
            return "both sides are nearly the same"
    return min(pairs, key=lambda pair: _rank(pair[0], pair[1], choice))


def _beats(chosen: JudgedCompletion, rejected: JudgedCompletion, margin: float) -> bool:
    """Whether a judge scores one answer above the other, by a margin or more; where it was not asked, yes."""
    if chosen.judge_score is None or rejected.judge_score is None:
        return True
    gain = chosen.judge_score - rejected.judge_score
    return gain > 0 and gain >= margin


def _rank(chosen: JudgedCompletion, rejected: JudgedCompletion, choice: PairChoice) -> tuple[float, ...]:
    """Sort key of a pair: best score on the chosen side, worst on the rejected one, then length as asked for.

    `min` keeps the first of equals, so candidates drawn earlier win.
    """
    lengths = chosen.completion.length, rejected.completion.length
    scores = -best_score(chosen), best_score(rejected)
    if choice.balanced:
        return (*scores, abs(_log_ratio(*lengths)))
    sign = {"first": 0, "shortest": 1, "longest": -1}[choice.tie_break]
    return (*scores, sign * lengths[0], sign * lengths[1])


def best_score(judged: JudgedCompletion) -> float:
    """The verifier's score of an answer, or the judge's; 0 where neither has one."""
    return judged.score or judged.judge_score or 0.0


def most_common_failure(candidates: list[JudgedCompletion]) -> str:
    """The filter that most of one side's candidates fail, when all of them fail one."""
    failures = Counter(j.failed_filter for j in candidates if j.failed_filter is not None)
    return failures.most_common(1)[0][0] if failures else "no answer"


def comparable_text(judged: JudgedCompletion) -> str:
    """A completion's text, without what differs in white space and invisible characters only."""
    return " ".join(INVISIBLE.sub("", judged.completion.written).split())


def shingle_similarity(one: str, two: str) -> float:
    """Jaccard similarity of two texts' runs of five words (shingles, Broder 1997), from 0 to 1."""
    a, b = shingles(WORD.findall(one.lower())), shingles(WORD.findall(two.lower()))
    return len(a & b) / len(a | b) if a and b else float(one == two)


def unbalanced_pairs(lengths: list[tuple[float, float]], share: float) -> set[int]:
    """Numbers of the pairs to drop, so that on at most `share` of the rest the same side is the longer one.

    Pairs of equal length count for neither side. The pairs whose lengths differ most, by ratio, go first.

    Args:
        lengths: tokens of the chosen and the rejected answer, a pair each.
        share: from 0.5 to 1.
    """
    ratios = [_log_ratio(*pair) for pair in lengths]
    dropped: set[int] = set()
    for sign in (1, -1):
        longer = sorted((i for i, x in enumerate(ratios) if x * sign > 0), key=lambda i: abs(ratios[i]))
        while longer and len(longer) > share * (len(lengths) - len(dropped)):
            dropped.add(longer.pop())
    return dropped


def _log_ratio(chosen_tokens: float, rejected_tokens: float) -> float:
    """Logarithm of how many times as long as the rejected answer the chosen one is."""
    return math.log(max(1, chosen_tokens) / max(1, rejected_tokens))
