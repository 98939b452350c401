"""Whether an answer is right: verifiers for generated text, shared by evaluation and pair making."""

import importlib
import importlib.util
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from apo_soup.data.sources.rows import RowError
from apo_soup.errors import UserError, first_line
from apo_soup.verify.modes import answer_part
from apo_soup.verify.numbers import numbers_in, only_number

# GSM8K's mark; models also write headings with it, which are no numbers.
GSM8K_MARK = re.compile(r"####\s*[*$]*\s*(\S.*)")


def number_verifier(text: str, reference: str) -> bool:
    r"""Whether the number that the answer ends with, or marks by `\boxed{}` or `####`, equals the reference exactly.

    Thousands and decimals in the ways of several languages, currency and percent signs, fractions, mixed numbers and
    powers are read. What stands in a box must be one number, with a unit at most: `\boxed{2x+3}` is none.

    Raises:
        RowError: the reference has no number, or more than one.
    """
    answer = answer_part(text)
    boxes = boxed(answer)
    if boxes:
        return reference_number(reference) in (only_number(boxes[-1]) or ())
    marked = [
        readings for line in GSM8K_MARK.findall(answer) if (readings := only_number(line.rstrip("* "))) is not None
    ]
    numbers = marked or numbers_in(answer)
    return bool(numbers) and reference_number(reference) in numbers[-1]


def boxed(text: str) -> list[str]:
    r"""What stands in the boxes of a text, however deep its braces.

    >>> boxed(r"\boxed{2}, no: \boxed{\frac{1}{\sqrt{\frac{1}{2}}}}")[-1]
    '\\frac{1}{\\sqrt{\\frac{1}{2}}}'
    """
    contents = []
    for start in (m.end() for m in re.finditer(r"\\boxed\s*\{", text)):
        depth = 1
        for end in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[end], 0)
            if depth == 0:
                contents.append(text[start:end])
                break
    return contents


def reference_number(reference: str) -> Fraction:
    """The one number of a reference answer.

    Raises:
        RowError: there is none, or more than one.
    """
    numbers = numbers_in(reference.rsplit("####", 1)[-1])
    if len(numbers) != 1 or not numbers[0]:
        told = f"expected one number, which the number verifier compares, got {reference[:80]!r}"
        raise RowError(f"field answer: {told}; correct it, or choose another verifier")
    return numbers[0][0]


def exact_verifier(text: str, reference: str) -> bool:
    """Whether the answer is the reference, white space at the ends aside."""
    return answer_part(text) == reference.strip()


def math_verifier(text: str, reference: str) -> bool:
    """Whether the answer equals the reference mathematically, written plainly or in LaTeX, as math-verify judges it.

    Raises:
        RowError: the reference cannot be read as mathematics.
    """
    from math_verify import parse, verify

    # Without marks around it the library takes the first plain number of a formula for all of it.
    marked = any(mark in reference for mark in ("$", "\\(", "\\[", "\\boxed"))
    gold = parse(reference if marked else f"${reference}$") or parse(reference)
    if not gold:
        told = f"expected mathematics that the math verifier can read, got {reference[:80]!r}"
        raise RowError(f"field answer: {told}; correct it, or choose another verifier")
    answer = answer_part(text)
    boxes = boxed(answer)  # the last one counts; the library takes all of them together
    return bool(verify(gold, parse(f"\\boxed{{{boxes[-1]}}}" if boxes else answer)))


# A verdict is true or false, or a score from 0 to 1; 0.5 and above is right.
Verifier = Callable[[str, str], bool | float]
VERIFIERS: dict[str, Verifier] = {
    "number": number_verifier,
    "exact": exact_verifier,
    "math": math_verifier,
}


def verifier(name: str, where: str) -> Verifier:
    """The verifier of that name, or the function that `package.module:function` names.

    `where` is `FILE:LINE: KEY` of the name, for messages.

    Raises:
        UserError: there is no verifier of that name, or what it needs is not installed.
    """
    module, colon, function = name.partition(":")
    if colon:
        try:
            own = getattr(importlib.import_module(module), function)
        except Exception as error:  # importing runs the file, which may do anything
            raise UserError(
                f"{where}: expected a function that can be imported, got {name}: {type(error).__name__}: "
                f"{first_line(error)}; correct the name"
            ) from error
        if not callable(own):
            raise UserError(
                f"{where}: expected a function of an answer's text and a reference, got {name}, which is a "
                f"{type(own).__name__}; name a function"
            )
        return checked_verifier(own, name, where)
    if name not in VERIFIERS:
        raise UserError(
            f"{where}: expected one of {', '.join(VERIFIERS)}, or package.module:function, got {name}; correct the name"
        )
    if name == "math" and importlib.util.find_spec("math_verify") is None:
        raise UserError(f"{where}: expected the package math-verify for math, got none; pip install 'apo-soup[math]'")
    return VERIFIERS[name]


def checked_verifier(own: Callable[[str, str], Any], name: str, where: str) -> Verifier:
    """A recipe's own verifier, whose failures and verdicts are reported with its name.

    Raises:
        UserError: when the verifier is called: it raised something, or gave no verdict.
    """

    def judge(text: str, reference: str) -> bool | float:
        try:
            verdict = own(text, reference)
        except RowError:
            raise
        except Exception as error:  # it may be any code
            raise UserError(
                f"{where}: expected a verdict of {name}, got {type(error).__name__} on reference "
                f"{reference[:60]!r}: {first_line(error)}; correct the function"
            ) from error
        verdict = verdict.item() if hasattr(verdict, "item") else verdict  # numpy's and torch's
        if not isinstance(verdict, (bool, int, float)) or not 0 <= verdict <= 1:
            raise UserError(
                f"{where}: expected true, false or a score from 0 to 1 from {name}, got {verdict!r}; correct "
                "the function"
            )
        return verdict

    return judge
