"""Problems with a written-out trace and a short answer that `apo_soup.verify.answers.number_verifier` can check.

Two families: `add`, the sum of two two-digit numbers by columns, and `walk`, five small steps up and down from a
start, one at each landmark. Each is easy one step at a time and hard in one go, which is what the two reasoning modes
are about.
"""

import random
from dataclasses import dataclass

from apo_soup.toy.splits import split_of

PROBLEM_FAMILIES = ("add", "walk")
LANDMARKS = ("lamp", "boat", "door", "bell", "tree")


@dataclass(frozen=True)
class Problem:
    """One problem: `identity` names it across splits, `trace` holds the steps without the think tags."""

    family: str
    identity: str
    question: str
    trace: str
    answer: str

    @property
    def split(self) -> str:
        """The split that owns the problem."""
        return split_of(self.identity)


def addition_problem(a: int, b: int) -> Problem:
    """`a + b` by columns, 10 <= a, b <= 99; the trace says the sum again, adds the units, then tens and carry."""
    units, tens = a % 10 + b % 10, a // 10 + b // 10
    carry = units // 10
    trace = f"is {a} + {b}\n{a % 10} + {b % 10} = {units}\n{a // 10} + {b // 10} + {carry} = {tens + carry}"
    return Problem("add", f"add {a} {b}", f"What is {a} + {b}?", trace, str(a + b))


def walk_problem(start: int, steps: tuple[int, ...]) -> Problem:
    """Signed `steps`, one at each landmark, from `start`; the trace writes each position reached."""
    position, lines, moves = start, [], []
    for landmark, step in zip(LANDMARKS, steps, strict=False):
        move = f"{landmark} {'+' if step > 0 else '-'} {abs(step)}"
        lines.append(f"{position} {move} = {position + step}")
        moves.append(move)
        position += step
    path = " ".join(moves)
    return Problem("walk", f"walk {start} {path}", f"Start at {start} then {path}?", "\n".join(lines), str(position))


def random_problem(rng: random.Random, family: str, split: str) -> Problem:
    """A random problem of `family` that belongs to `split`.

    Raises:
        ValueError: there is no such family.
    """
    while True:
        if family == "add":
            problem = addition_problem(rng.randint(10, 99), rng.randint(10, 99))
        elif family == "walk":
            start, steps = rng.randint(1, 9), []
            position = start
            for _ in range(len(LANDMARKS)):
                step = rng.choice([s for s in range(-9, 10) if s and 0 <= position + s <= 19])
                steps.append(step)
                position += step
            problem = walk_problem(start, tuple(steps))
        else:
            raise ValueError(f"family: expected one of {', '.join(PROBLEM_FAMILIES)}, got {family!r}")
        if problem.split == split:
            return problem
