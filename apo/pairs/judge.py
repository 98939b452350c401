"""Which answers may stand in a pair, and which two of them make the best one. Pure functions; nothing is asked here."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Any

from apo.pairs.prompts import Prompt
from apo_soup.data.clean import WORD, shingles
from apo_soup.models.completion import Completion
from apo_soup.verify.answers import Verifier, answer_part, mode_fault

RIGHT = 0.5
NO_WORD = re.compile(r"[\d\W_]+")
# Letters that an answer and its prompt must have before a language is told, and how sure that must be.
LETTERS, SURE = 40, 0.95


@dataclass(frozen=True)
class Filters:
    """What an answer must keep to. Lengths are in tokens; `near` is the share of 5-word runs that two sides of a pair
    may have in common; `languages` limits what is told apart.
    """

    think: bool
    min_tokens: int = 1
    max_tokens: int | None = None
    near: float | None = None
    language: bool = False
    languages: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Judged:
    """A completion, what is wrong with it (None: nothing), and its score from 0 to 1 where nothing is and a reference
    was there.
    """

    completion: Completion
    fault: str | None
    score: float | None

    @property
    def right(self) -> bool | None:
        return None if self.score is None else self.score >= RIGHT


@dataclass(frozen=True)
class Choice:
    """How a pair is chosen among the candidates that pass.

    `keep` is right_over_wrong, right_over_any or strong_over_weak; `tie_break` orders candidates of one score: first,
    shortest or longest. With `balanced`, the two that are closest in length are taken among those of the best and the
    worst score.
    """

    keep: str
    tie_break: str = "first"
    balanced: bool = False


def judge(completion: Completion, prompt: Prompt, filters: Filters, verifier: Verifier | None) -> Judged:
    """One completion under the filters and the verifier."""
    wrong, score = fault(completion, prompt, filters), None
    if verifier and prompt.reference is not None and wrong is None:
        score = float(verifier(completion.text, prompt.reference))
    return Judged(completion, wrong, score)


def fault(completion: Completion, prompt: Prompt, filters: Filters) -> str | None:
    """The first filter that a completion fails, in a few words, or None."""
    if completion.problem:
        return completion.problem
    if not completion.finished:
        return "cut off"
    wrong_mode = mode_fault(completion.text, filters.think)
    if wrong_mode:
        return wrong_mode
    if completion.tokens < filters.min_tokens:
        return "too short"
    if filters.max_tokens is not None and completion.tokens > filters.max_tokens:
        return "too long"
    if filters.language and not same_language(prompt.messages[-1]["content"], completion.text, filters.languages):
        return "another language"
    return None


def same_language(question: str, answer: str, languages: tuple[str, ...] | None) -> bool:
    """Whether an answer, its reasoning aside, keeps the language of its question; short or doubtful texts pass."""
    one, two = (language(text, languages) for text in (question, answer_part(answer)))
    return one is None or two is None or one == two


def language(text: str, languages: tuple[str, ...] | None) -> str | None:
    """ISO 639-1 code of a text's language, or None where there is too little of it to be sure."""
    identifier = _identifier(languages)
    words = NO_WORD.sub(" ", text)
    if sum(map(str.isalpha, words)) < LETTERS:
        return None
    found, sure = identifier.classify(words)
    return found if sure >= SURE else None


@cache
def _identifier(languages: tuple[str, ...] | None) -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(languages) if languages else None)
    return identifier


def choose(strong: list[Judged], weak: list[Judged], choice: Choice, near: float | None) -> tuple[Judged, Judged] | str:
    """The chosen and the rejected answer of one prompt, or the reason there is no pair."""
    good = [j for j in strong if j.fault is None]
    bad = [j for j in weak if j.fault is None]
    for side, passed, all_ in (("strong", good, strong), ("weak", bad, weak)):
        if not passed:
            return f"{side}: {most_common(all_)}"
    if choice.keep != "strong_over_weak":
        good = [j for j in good if j.right is not False]
        if not good:
            return "strong: wrong"
    if choice.keep == "right_over_wrong":
        bad = [j for j in bad if j.right is not True]
        if not bad:
            return "weak: right too"
    pairs = [(c, r) for c in good for r in bad]
    different = [(c, r) for c, r in pairs if plain(c) != plain(r)]
    if not different:
        return "both sides are the same"
    different = [(c, r) for c, r in different if None in (c.score, r.score) or c.score >= r.score]
    if not different:
        return "weak: better than strong"
    if near is not None:
        different = [(c, r) for c, r in different if overlap(plain(c), plain(r)) < near]
        if not different:
            return "both sides are nearly the same"
    return min(different, key=lambda pair: _rank(*pair, choice))


def _rank(chosen: Judged, rejected: Judged, choice: Choice) -> tuple[float, ...]:
    """Sort key of a pair: best score on the chosen side, worst on the rejected one, then length as asked for.

    `min` keeps the first of equals, so candidates drawn earlier win.
    """
    lengths = chosen.completion.tokens, rejected.completion.tokens
    scores = -(chosen.score or 0.0), rejected.score or 0.0
    if choice.balanced:
        return (*scores, abs(math.log(max(1, lengths[0]) / max(1, lengths[1]))))
    sign = {"first": 0, "shortest": 1, "longest": -1}[choice.tie_break]
    return (*scores, sign * lengths[0], sign * lengths[1])


def most_common(judged: list[Judged]) -> str:
    """The fault that most of one side's candidates have."""
    found = Counter(j.fault for j in judged)
    return found.most_common(1)[0][0] if found else "no answer"


def plain(judged: Judged) -> str:
    """A completion's words, without what differs in white space only."""
    return " ".join(judged.completion.text.split())


def overlap(one: str, two: str) -> float:
    """Jaccard similarity of two texts' runs of five words."""
    a, b = shingles(WORD.findall(one.lower())), shingles(WORD.findall(two.lower()))
    return len(a & b) / len(a | b) if a and b else float(one == two)


def unbalanced(lengths: list[tuple[int, int]], share: float) -> set[int]:
    """Numbers of the pairs to drop, so that on at most `share` of the rest the same side is the longer one.

    Pairs of equal length count for neither side. The pairs whose lengths differ most, by ratio, go first.
    """
    ratios = [math.log(max(1, c) / max(1, r)) for c, r in lengths]
    dropped: set[int] = set()
    for sign in (1, -1):
        longer = sorted((i for i, x in enumerate(ratios) if x * sign > 0), key=lambda i: abs(ratios[i]))
        while longer and len(longer) > share * (len(lengths) - len(dropped)):
            dropped.add(longer.pop())
    return dropped
