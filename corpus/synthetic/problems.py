"""Problems with a written-out trace, a short answer and a verifier.

Two families: `add`, the sum of two two-digit numbers by columns, and `walk`, five small steps up and down from a
start. Each is easy one step at a time and hard in one go, which is what the two reasoning modes are about.
"""

import random
import re
from dataclasses import dataclass

from corpus.synthetic.splits import split_of

FAMILIES = ("add", "walk")


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
        return split_of(self.identity)


def addition(a: int, b: int) -> Problem:
    """`a + b` by columns, 10 <= a, b <= 99; the trace adds the units, then the tens with the carry."""
    units, tens = a % 10 + b % 10, a // 10 + b // 10
    carry = units // 10
    trace = f"{a % 10} + {b % 10} = {units}\n{a // 10} + {b // 10} + {carry} = {tens + carry}"
    return Problem("add", f"add {a} {b}", f"What is {a} + {b}?", trace, str(a + b))


def walk(start: int, steps: tuple[int, ...]) -> Problem:
    """Signed `steps` taken one after another from `start`; the trace writes each position reached."""
    position, lines, told = start, [], []
    for step in steps:
        sign = "+" if step > 0 else "-"
        lines.append(f"{position} {sign} {abs(step)} = {position + step}")
        told.append(f"{sign} {abs(step)}")
        position += step
    path = " ".join(told)
    return Problem("walk", f"walk {start} {path}", f"Start at {start} and go {path}?", "\n".join(lines), str(position))


def draw(rng: random.Random, family: str, split: str) -> Problem:
    """A random problem of `family` that belongs to `split`."""
    while True:
        if family == "add":
            problem = addition(rng.randint(10, 99), rng.randint(10, 99))
        elif family == "walk":
            start, steps = rng.randint(1, 9), []
            position = start
            for _ in range(5):
                step = rng.choice([s for s in range(-9, 10) if s and 0 <= position + s <= 19])
                steps.append(step)
                position += step
            problem = walk(start, tuple(steps))
        else:
            raise ValueError(f"unknown problem family {family!r}; known: {', '.join(FAMILIES)}")
        if problem.split == split:
            return problem


def final_number(text: str) -> str | None:
    """The last whole number after the reasoning, as digits, or None. Text inside think tags does not count."""
    answer = text.rsplit("</think>", 1)[-1]
    numbers = re.findall(r"\d+", answer)
    return numbers[-1].lstrip("0") or "0" if numbers else None


def verify(text: str, answer: str) -> bool:
    """Whether `text` ends in the number `answer`."""
    return final_number(text) == answer
