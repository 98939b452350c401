"""Whether an answer is right: verifiers for generated text, shared by evaluation and pair making."""

import re
from collections.abc import Callable

from corpus.rows import RowError
from pipeline.errors import UserError

END_OF_THINKING = "</think>"


def answer_part(text: str) -> str:
    """What stands behind the reasoning; text without a think block is all answer."""
    return text.rsplit(END_OF_THINKING, 1)[-1].strip()


def number(text: str, reference: str) -> bool:
    """The last number of the answer equals the reference as a number; thousands commas and a currency sign are fine."""
    found = re.findall(r"-?\d[\d,]*(?:\.\d+)?", answer_part(text))
    return bool(found) and _value(found[-1]) == _value(reference)


def _value(text: str) -> float:
    try:
        return float(text.replace(",", "").replace("$", "").strip().rstrip("."))
    except ValueError:
        raise RowError(f"field answer: the number verifier needs a number, found {text!r}") from None


def exact(text: str, reference: str) -> bool:
    """The answer is the reference, white space at the ends aside."""
    return answer_part(text) == reference.strip()


VERIFIERS: dict[str, Callable[[str, str], bool]] = {"number": number, "exact": exact}


def verifier(name: str, where: str) -> Callable[[str, str], bool]:
    if name not in VERIFIERS:
        raise UserError(f"{where}: no verifier is called {name}; known: {', '.join(VERIFIERS)}")
    return VERIFIERS[name]


def obeys(text: str, think: bool) -> bool:
    """Whether generated text keeps the mode: a filled, closed think block and then an answer, or no block at all."""
    if think:
        block = re.match(r"\s*<think>(.*?)</think>(.*)", text, re.DOTALL)
        return bool(block and block[1].strip() and block[2].strip())
    return "<think>" not in text and END_OF_THINKING not in text and bool(text.strip())
