"""Whether an answer is right: verifiers for generated text, shared by evaluation and pair making."""

import importlib
import importlib.util
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from corpus.rows import RowError
from pipeline.errors import UserError, first_line

END_OF_THINKING = "</think>"
# What opens a turn in the common templates; a model that writes it goes on to speak for somebody else.
HEADER = re.compile(r"<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|<\|start\|>")


def answer_part(text: str) -> str:
    """What stands behind the reasoning; text without a think block is all answer."""
    return text.rsplit(END_OF_THINKING, 1)[-1].strip()


# Where an answer says which of its numbers is meant, strongest first.
MARKS = (re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}"), re.compile(r"####\s*(.+)"))
NUMBER = re.compile(
    r"(?:(?<![\d)])-\s?)?[$€£]?\s?"  # a minus behind a number is a difference, not a sign
    r"(?:\d{1,3}(?:,\d{3})+(?![\d,]|\.\d{3}\b)(?:\.\d+)?|\d+[.,]\d+|\.\d+|\d+)(?:[eE][+-]?\d+)?(?:\s?/\s?[1-9]\d*)?"
)


def number(text: str, reference: str) -> bool:
    """The number that the answer ends with, or marks by `\\boxed{}` or `####`, equals the reference exactly.

    Thousands commas, decimal commas, currency and percent signs, fractions and powers of ten are read; the exponent of
    a unit (`27 cm^3`) is none of the answer's numbers.
    """
    answer = answer_part(text)
    marked = next((found[-1] for mark in MARKS if (found := mark.findall(answer))), answer)
    numbers = numbers_in(marked)
    return bool(numbers) and numbers[-1] == reference_number(reference)


def numbers_in(text: str) -> list[Fraction]:
    """All numbers of a text, in order, as exact values.

    >>> numbers_in("It costs -$1,250.50, half of it 1/2, 27 cm^3")
    [Fraction(-2501, 2), Fraction(1, 2), Fraction(27, 1)]
    """
    plain = text.replace("\u2212", "-").replace("{,}", ",").replace("\\$", "$").replace("\\!", "")
    plain = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2", plain)
    plain = re.sub(r"\^\s*(\{[^{}]*\}|-?\d+)", " ", plain)
    return [_exact(found) for found in NUMBER.findall(plain)]


def _exact(found: str) -> Fraction:
    over, _, under = re.sub(r"[$€£\s]", "", found).partition("/")
    grouped = re.fullmatch(r"-?\d{1,3}(,\d{3})+(\.\d+)?", over)
    over = over.replace(",", "" if grouped else ".")
    return Fraction(over) / int(under or 1)


def reference_number(reference: str) -> Fraction:
    """The one number of a reference answer; raises RowError where there is none, or more than one."""
    found = numbers_in(reference.rsplit("####", 1)[-1])
    if len(found) != 1:
        raise RowError(f"field answer: the number verifier needs a number, found {reference!r}")
    return found[0]


def exact(text: str, reference: str) -> bool:
    """The answer is the reference, white space at the ends aside."""
    return answer_part(text) == reference.strip()


def math(text: str, reference: str) -> bool:
    """The answer is mathematically equal to the reference, written plainly or in LaTeX, as math-verify judges it."""
    from math_verify import parse, verify

    # Without marks around it the library takes the first plain number of a formula for all of it.
    marked = any(mark in reference for mark in ("$", "\\(", "\\[", "\\boxed"))
    gold = parse(reference if marked else f"${reference}$") or parse(reference)
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
        return checked(found, name, where)
    if name not in VERIFIERS:
        raise UserError(
            f"{where}: no verifier is called {name}; known: {', '.join(VERIFIERS)}, or package.module:function"
        )
    if name == "math" and importlib.util.find_spec("math_verify") is None:
        raise UserError(f"{where}: the math verifier needs math-verify; pip install 'apo-soup[math]'")
    return VERIFIERS[name]


def checked(own: Callable[[str, str], Any], name: str, where: str) -> Verifier:
    """A recipe's own verifier, whose failures and verdicts are told with its name.

    Raises:
        UserError: when it is called: it raised something, or gave neither true, false, nor a score from 0 to 1.
    """

    def judge(text: str, reference: str) -> bool | float:
        try:
            verdict = own(text, reference)
        except RowError:
            raise
        except Exception as error:  # it may be any code
            raise UserError(
                f"{where}: the verifier {name} failed on reference {reference[:60]!r}: {type(error).__name__}: "
                f"{first_line(error)}"
            ) from error
        if not isinstance(verdict, (bool, int, float)) or not 0 <= verdict <= 1:
            raise UserError(f"{where}: the verifier {name} gives true, false or a score from 0 to 1, found {verdict!r}")
        return verdict

    return judge


def obeys(text: str, think: bool) -> bool:
    """Whether generated text keeps the mode: a filled, closed think block and then an answer, or no block at all."""
    return mode_fault(text, think) is None


def mode_fault(text: str, think: bool) -> str | None:
    """How generated text breaks its mode, in a few words, or None."""
    if HEADER.search(text):
        return "the header of another turn"
    if not think:
        if "<think>" in text or END_OF_THINKING in text:
            return "a think block in no-think mode"
        return None if text.strip() else "empty answer"
    block = re.match(r"\s*<think>(.*?)(?:</think>(.*))?$", text, re.DOTALL)
    if not block or not block[1].strip():
        return "no think block"
    if block[2] is None:
        return "think block not closed"
    if text.count("<think>") != 1 or text.count(END_OF_THINKING) != 1:
        return "more than one think block"
    return None if answer_part(text) else "empty answer"
