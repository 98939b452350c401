"""Problems with a written-out trace and a short answer that `apo_soup.verify.answers.number_verifier` can check.

Two families: `add`, the sum of two two-digit numbers by columns, and `walk`, five small steps up and down from a
start, one at each landmark. Each is easy one step at a time and hard in one go, which is what the two reasoning modes
are about. A question comes in six languages; a landmark is a name and is the same in all.
"""

import random
from dataclasses import dataclass

from apo_soup.toy.splits import split_of

PROBLEM_FAMILIES = ("add", "walk")
LANDMARKS = ("lamp", "boat", "door", "bell", "tree")


@dataclass(frozen=True)
class ToyWording:
    """How a language asks: `sum_lead` stands before the sum, in the question and where the trace says it again."""

    sum_question: str
    sum_lead: str
    walk_question: str


TOY_WORDINGS = {
    "en": ToyWording("What is {sum}?", "is", "Start at {start} then {path}?"),
    "fr": ToyWording("Combien font {sum} ?", "font", "Pars de {start} puis {path} ?"),
    "es": ToyWording("¿Cuánto es {sum}?", "es", "Sal de {start} y luego {path}?"),
    "de": ToyWording("Was ist {sum}?", "ist", "Beginne bei {start} dann {path}?"),
    "it": ToyWording("Quanto fa {sum}?", "fa", "Parti da {start} poi {path}?"),
    "pt": ToyWording("Quanto dá {sum}?", "dá", "Sai de {start} e depois {path}?"),
}
TOY_LANGUAGES = tuple(TOY_WORDINGS)


@dataclass(frozen=True)
class Problem:
    """One problem: `identity` names it across splits and languages, `trace` holds the steps without the think tags."""

    family: str
    language: str
    identity: str
    question: str
    trace: str
    answer: str

    @property
    def split(self) -> str:
        """The split that owns the problem."""
        return split_of(self.identity)


def addition_problem(a: int, b: int, language: str = "en") -> Problem:
    """`a + b` by columns, 10 <= a, b <= 99; the trace says the sum again, adds the units, then tens and carry."""
    units, tens = a % 10 + b % 10, a // 10 + b // 10
    carry = units // 10
    say = TOY_WORDINGS[language]
    asked = f"{a} + {b}"
    trace = f"{say.sum_lead} {asked}\n{a % 10} + {b % 10} = {units}\n{a // 10} + {b // 10} + {carry} = {tens + carry}"
    return Problem("add", language, f"add {a} {b}", say.sum_question.format(sum=asked), trace, str(a + b))


def walk_problem(start: int, steps: tuple[int, ...], language: str = "en") -> Problem:
    """Signed `steps`, one at each landmark, from `start`; the trace writes each position reached."""
    position, lines, moves = start, [], []
    for landmark, step in zip(LANDMARKS, steps, strict=False):
        move = f"{landmark} {'+' if step > 0 else '-'} {abs(step)}"
        lines.append(f"{position} {move} = {position + step}")
        moves.append(move)
        position += step
    path = " ".join(moves)
    question = TOY_WORDINGS[language].walk_question.format(start=start, path=path)
    return Problem("walk", language, f"walk {start} {path}", question, "\n".join(lines), str(position))


def asked_in(problem: Problem, language: str) -> Problem:
    """The same problem in a language."""
    _, first, *path = problem.identity.split()
    if problem.family == "add":
        return addition_problem(int(first), int(path[0]), language)
    steps = tuple(int(f"{sign}{number}") for sign, number in zip(path[1::3], path[2::3], strict=True))
    return walk_problem(int(first), steps, language)


def random_problem(rng: random.Random, family: str, split: str, language: str = "en") -> Problem:
    """A random problem of `family` that belongs to `split`, asked in `language`.

    Raises:
        ValueError: there is no such family.
    """
    while True:
        if family == "add":
            problem = addition_problem(rng.randint(10, 99), rng.randint(10, 99), language)
        elif family == "walk":
            start, steps = rng.randint(1, 9), []
            position = start
            for _ in range(len(LANDMARKS)):
                step = rng.choice([s for s in range(-9, 10) if s and 0 <= position + s <= 19])
                steps.append(step)
                position += step
            problem = walk_problem(start, tuple(steps), language)
        else:
            raise ValueError(f"family: expected one of {', '.join(PROBLEM_FAMILIES)}, got {family!r}")
        if problem.split == split:
            return problem
