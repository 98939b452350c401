"""Whether an answer is right: verifiers for generated text, shared by evaluation and pair making."""

import importlib
import importlib.util
import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from apo_soup.data.rows import RowError
from apo_soup.errors import UserError, first_line
from apo_soup.verify.numbers import numbers_in, only_number

END_OF_THINKING = "</think>"
# What opens a turn in the common templates; a model that writes it goes on to speak for somebody else.
HEADER = re.compile(r"<\|im_start\|>|<\|start_header_id\|>|<start_of_turn>|<\|start\|>")


def answer_part(text: str) -> str:
    """What stands behind the reasoning; text without a think block is all answer, and one never closed holds none."""
    _, closed, answer = text.rpartition(END_OF_THINKING)
    return "" if not closed and "<think>" in answer else answer.strip()


# GSM8K's mark; models also write headings with it, which are no numbers.
HASHES = re.compile(r"####\s*[*$]*\s*(\S.*)")


def number(text: str, reference: str) -> bool:
    """The number that the answer ends with, or marks by `\\boxed{}` or `####`, equals the reference exactly.

    Thousands and decimals in the ways of several languages, currency and percent signs, fractions, mixed numbers and
    powers are read. What stands in a box must be one number, with a unit at most: `\\boxed{2x+3}` is none.
    """
    answer = answer_part(text)
    boxes = boxed(answer)
    if boxes:
        return reference_number(reference) in (only_number(boxes[-1]) or ())
    marked = [readings for line in HASHES.findall(answer) if (readings := only_number(line.rstrip("* "))) is not None]
    found = marked or numbers_in(answer)
    return bool(found) and reference_number(reference) in found[-1]


def boxed(text: str) -> list[str]:
    r"""What stands in the boxes of a text, however deep its braces.

    >>> boxed(r"\boxed{2}, no: \boxed{\frac{1}{\sqrt{\frac{1}{2}}}}")[-1]
    '\\frac{1}{\\sqrt{\\frac{1}{2}}}'
    """
    found = []
    for start in (m.end() for m in re.finditer(r"\\boxed\s*\{", text)):
        depth = 1
        for place in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            if depth == 0:
                found.append(text[start:place])
                break
    return found


def reference_number(reference: str) -> Fraction:
    """The one number of a reference answer; raises RowError where there is none, or more than one."""
    found = numbers_in(reference.rsplit("####", 1)[-1])
    if len(found) != 1 or not found[0]:
        raise RowError(f"field answer: the number verifier needs a number, found {reference[:80]!r}")
    return found[0][0]


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
    answer = answer_part(text)
    boxes = boxed(answer)  # the last one counts; the library takes all of them together
    return bool(verify(gold, parse(f"\\boxed{{{boxes[-1]}}}" if boxes else answer)))


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
        except Exception as error:  # importing runs the file, which may do anything
            told = f"{type(error).__name__}: {first_line(error)}"
            raise UserError(f"{where}: the verifier {name} cannot be imported: {told}") from error
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
        verdict = verdict.item() if hasattr(verdict, "item") else verdict  # numpy's and torch's
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
