"""Whether an answer is right: verifiers for generated text, shared by evaluation and pair making."""

import importlib
import importlib.util
import re
from collections.abc import Callable

from corpus.rows import RowError
from pipeline.errors import UserError, first_line

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


def math(text: str, reference: str) -> bool:
    """The answer is mathematically equal to the reference, written plainly or in LaTeX, as math-verify judges it."""
    from math_verify import parse, verify

    gold = parse(reference) or parse(f"${reference}$")
    if not gold:
        raise RowError(f"field answer: the math verifier cannot read {reference!r}")
    return bool(verify(gold, parse(answer_part(text))))


# A verdict is true or false, or a score from 0 to 1; 0.5 and above is right.
Verifier = Callable[[str, str], bool | float]
VERIFIERS: dict[str, Verifier] = {"number": number, "exact": exact, "math": math}


def verifier(name: str, where: str) -> Verifier:
    """The verifier of that name, or the function that `package.module:function` names.

    Raises:
        UserError: nothing is called so, or what it needs is not installed.
    """
    module, colon, function = name.partition(":")
    if colon:
        try:
            found = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError) as error:
            raise UserError(f"{where}: the verifier {name} cannot be imported: {first_line(error)}") from error
        if not callable(found):
            raise UserError(f"{where}: the verifier {name} is no function of an answer's text and a reference")
        return found
    if name not in VERIFIERS:
        raise UserError(
            f"{where}: no verifier is called {name}; known: {', '.join(VERIFIERS)}, or package.module:function"
        )
    if name == "math" and importlib.util.find_spec("math_verify") is None:
        raise UserError(f"{where}: the math verifier needs math-verify; pip install 'apo-soup[math]'")
    return VERIFIERS[name]


def verifier_code(name: str) -> str | None:
    """The source file of a verifier named as `package.module:function`, whose content decides the verdicts."""
    module, colon, _ = name.partition(":")
    spec = importlib.util.find_spec(module) if colon else None
    return spec.origin if spec else None


def obeys(text: str, think: bool) -> bool:
    """Whether generated text keeps the mode: a filled, closed think block and then an answer, or no block at all."""
    return mode_fault(text, think) is None


def mode_fault(text: str, think: bool) -> str | None:
    """How generated text breaks its mode, in a few words, or None."""
    if not think:
        if "<think>" in text or END_OF_THINKING in text:
            return "a think block in no-think mode"
        return None if text.strip() else "empty answer"
    block = re.match(r"\s*<think>(.*?)(?:</think>(.*))?$", text, re.DOTALL)
    if not block or not block[1].strip():
        return "no think block"
    if block[2] is None:
        return "think block not closed"
    return None if block[2].strip() else "empty answer"
