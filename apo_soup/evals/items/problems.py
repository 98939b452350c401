"""Problems with one number as the answer, from a seed, in SmolLM3's six languages.

Four families: `arithmetic` (a story with a few steps), `ordering` (the n-th smallest of a list), `counting` (how often
a word stands in a text) and `lookup` (a code in a list of names). Every answer is a number, so one verifier judges all
languages alike, and a language costs only its wording.
"""

import random
from collections.abc import Callable
from typing import Any

from apo_soup.config.eval import ProblemItems
from apo_soup.evals.items.wordings import WORDINGS, Wording

_NAMES = ("Anna", "Bruno", "Clara", "David", "Elena", "Felix", "Greta", "Hugo", "Irene", "Jonas", "Laura", "Marco")
# Question and answer, from a wording and a source of chance.
ProblemMaker = Callable[[random.Random, Wording], tuple[str, int]]


def _arithmetic(rng: random.Random, say: Wording) -> tuple[str, int]:
    """A story of three changes to a number of apples, which never falls below zero."""
    name, total = rng.choice(_NAMES), rng.randint(12, 60)
    sentences = [say.have.format(name=name, n=total)]
    for _ in range(3):
        kind = rng.choice(("gain", "lose", "boxes"))
        if kind == "gain":
            n = rng.randint(5, 45)
            total += n
            sentences.append(say.gain.format(name=name, n=n))
        elif kind == "lose":
            n = rng.randint(2, max(2, total // 2))
            total -= n
            sentences.append(say.lose.format(name=name, n=n))
        else:
            n, m = rng.randint(2, 6), rng.randint(3, 9)
            total += n * m
            sentences.append(say.boxes.format(name=name, n=n, m=m))
    return " ".join([*sentences, say.total.format(name=name)]), total


def _ordering(rng: random.Random, say: Wording) -> tuple[str, int]:
    """The n-th smallest of six different numbers."""
    numbers, rank = rng.sample(range(10, 1000), 6), rng.randint(2, 5)
    items = ", ".join(map(str, numbers))
    return f"{say.smallest.format(n=rank)}\n{say.list_of.format(items=items)}", sorted(numbers)[rank - 1]


def _counting(rng: random.Random, say: Wording) -> tuple[str, int]:
    """How often one of a few words stands in a shuffled text of them."""
    word, times = rng.choice(say.words), rng.randint(2, 7)
    others = [w for w in say.words if w != word]
    text = [word] * times + rng.choices(others, k=rng.randint(6, 12))
    rng.shuffle(text)
    return f"{say.count.format(word=word)}\n{' '.join(text)}", times


def _lookup(rng: random.Random, say: Wording) -> tuple[str, int]:
    """One of eight codes."""
    names = rng.sample(_NAMES, 8)
    codes = dict(zip(names, rng.sample(range(1000, 10000), 8), strict=True))
    chosen = rng.choice(names)
    text = " ".join(say.code.format(name=name, n=code) for name, code in codes.items())
    return f"{text}\n{say.ask_code.format(name=chosen)}", codes[chosen]


PROBLEM_MAKERS: dict[str, ProblemMaker] = {
    "arithmetic": _arithmetic,
    "ordering": _ordering,
    "counting": _counting,
    "lookup": _lookup,
}


def generated_problems(seed: int, items: ProblemItems) -> list[dict[str, Any]]:
    """`count` different problems, families and languages taking turns; the same for the same arguments."""
    rng = random.Random(f"problems {seed}")
    rows: list[dict[str, Any]] = []
    seen = set()
    while len(rows) < items.count:
        family = items.families[len(rows) % len(items.families)]
        language = items.languages[len(rows) // len(items.families) % len(items.languages)]
        say = WORDINGS[language]
        question, answer = PROBLEM_MAKERS[family](rng, say)
        if question in seen:
            continue
        seen.add(question)
        messages = [{"role": "user", "content": f"{question}\n{say.close}"}]
        rows.append({"messages": messages, "answer": str(answer), "group": f"{family}-{language}"})
    return rows
