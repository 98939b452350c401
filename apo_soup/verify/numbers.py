"""Numbers as people and models write them, as exact values.

A number may be read in more than one way: `4.821` is four and a bit in English and 4 821 in German. Every reading is
kept, and a verdict asks whether the reference is among them.
"""

import re
from fractions import Fraction
from unicodedata import normalize

# The first is the one that a reference means.
Readings = tuple[Fraction, ...]
# Longer numbers are nobody's answer, and arithmetic on them takes for ever.
DIGITS, EXPONENT = 60, 60
# A minus is a sign where it touches its number and stands behind no other value (`10 - 7`, `10 -7`), or behind `=`.
SIGN = r"(?:(?<=[=({\[]) *[-+] *|(?<![\w)}\]])(?<![\d)}\]]\s)[-+](?=[$€£]\s?[\d.]|[\d.]))?"
GROUPED = (  # a zero at the front is of no thousands: `0.125`
    r"(?!0)\d{1,3}(?:(?P<group>[,. \u00a0\u2009\u202f'’])\d{3})(?:(?P=group)\d{3})*(?![\d])(?!(?P=group)\d)(?:[.,]\d+)?"
)
UNGROUPED = r"\d+[.,]\d+|\.\d+|\d+"
NUMBER = re.compile(
    rf"(?P<sign>{SIGN})[$€£]?\s?(?:(?P<whole>\d+)\s+(?P<part>\d+\s?/\s?[1-9]\d*)|(?P<value>{GROUPED}|{UNGROUPED})"
    rf"(?P<power>[eE][+-]?\d+)?(?:\s?/\s?(?P<under>[1-9]\d*))?)"
)
TIMES = r"\s*(?:\\times|\\cdot|×|·|\*|x)\s*"
# Two asterisks around a number are bold: those of a power touch both numbers, or stand apart from both.
POWER = r"(?:\s*\^\s*|\*\*(?=[-{\d])|[ \t]+\*\*[ \t]+)\{?\s*(-?\d+)\s*\}?"
# Dashes that people type for a minus; the long one stands between words.
DASHES = str.maketrans(dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"))
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
ONE_SIGN_FRACTION = re.compile("(\\d?)([¼-¾⅐-⅞])")
# LaTeX that says how something looks.
LOOKS = re.compile(r"\\(?:left|right|displaystyle|textstyle|[Bb]igg?[lr]?|[Ll]arge|LARGE)(?![A-Za-z])|(?<=\d)~(?!\d)")
# Squares and cubes of lengths, written flat.
FLAT_UNIT = re.compile(r"(\d\s?(?:[cdkm]?m|ft|in|yd|mi))[23]\b")
LATEX_WORDS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
MARKS_OF_UNITS = re.compile(r"\^?\s*\{?\\circ\}?|\\degree\b|\\[%$,; !]|[%$€£°]|\b[A-Z]{3}\b")
NAME = re.compile(r"[A-Za-z]\w*(?:_\{\w+\})?\s*(?:=|:|\\approx|≈|~)|[≈~]|\\approx")
# Letters that touch a number and are units; others are variables (`2x`).
GLUED = "hmsgdlLWVAJNCFK"
LETTERS = re.compile(r"[^\W\d_]+")
# What may stand behind a number: words, units with exponents and quotients, a remark in brackets.
UNIT = r"[^\W\d_]+(?:['-][^\W\d_]+)*\^?\.?"
AFTER = re.compile(rf"\s*(?:{UNIT}(?:(?:\s+|\s*/\s*){UNIT})*)?\s*\^?\s*(?:\([^()\d]*\))?[\s.]*")


def numbers_in(text: str) -> list[Readings]:
    r"""All numbers of a text, in order, each with its readings; a number too long to be one has none.

    >>> [sorted(map(str, n)) for n in numbers_in("It costs -$1,250.50, half of it 1/2, 27 cm^3")]
    [['-2501/2'], ['1/2'], ['27']]
    >>> [sorted(map(str, n)) for n in numbers_in("10 - 7, 3 1/2, 6 \\times 10^{3}, 4.821")]
    [['10'], ['7'], ['7/2'], ['6000'], ['4821', '4821/1000']]
    """
    return [_readings(found) for found in NUMBER.finditer(without_latex(text))]


def only_number(text: str) -> Readings | None:
    r"""The readings of a text that is one number with a unit at most (`x = 18 \text{ apples}`), or None.

    >>> only_number("2x+3"), only_number("2\\sqrt{3}")
    (None, None)
    >>> [str(*only_number(t)) for t in ("x = 18\\%", "90^\\circ", "(10 m/s)", "27 cm^3", "5h")]
    ['18', '90', '10', '27', '5']
    """
    bare = MARKS_OF_UNITS.sub(" ", without_latex(LATEX_WORDS.sub(r" \1 ", text))).strip()
    if re.fullmatch(r"\([^()]*\)|\{[^{}]*\}", bare):
        bare = bare[1:-1].strip()
    named = NAME.match(bare)
    bare = bare[named.end() :].strip() if named else bare
    found = NUMBER.match(bare)
    if not found:
        return None
    after = bare[found.end() :]
    letters = LETTERS.match(after)
    glued = letters is not None and after[0].isalpha() and len(letters[0]) == 1 and after[0] not in GLUED
    return None if glued or not AFTER.fullmatch(after) else _readings(found)


def without_latex(text: str) -> str:
    """A text without LaTeX's ways of writing minus, thousands, fractions and powers of numbers."""
    text = text.translate(DASHES).replace("{,}", ",").replace("\\,", "\u2009").replace("\\$", "$")
    text = LOOKS.sub(" ", text.replace("\\!", ""))
    text = re.sub(r"\b(?:minus|negative)\s+(?=\d)", "-", text)
    text = re.sub("(?<=\\d)[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda m: f"^{{{m[0].translate(SUPERSCRIPTS)}}}", text)
    text = ONE_SIGN_FRACTION.sub(
        lambda m: f"{m[1]} "[: 2 * len(m[1])] + normalize("NFKC", m[2]).replace("\u2044", "/"), text
    )
    text = FLAT_UNIT.sub(r"\1", text)
    text = re.sub(r"\\([dt]?frac)\s*(\d)\s*(\d)", r"\\\1{\2}{\3}", text)
    text = re.sub(r"(\d)\s*\\[dt]?frac\s*\{(\d+)\}\s*\{(\d+)\}", r"\1 \2/\3", text)
    text = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1/\2", text)
    text = re.sub(rf"(\d){TIMES}10{POWER}", lambda m: f"{m[1]}e{m[2]}", text)
    text = re.sub(rf"(?<![\w.,)])(\d{{1,4}}){POWER}", _raised, text)
    # The exponent of a unit or of a variable is none of the text's numbers.
    return re.sub(r"\^\s*(\{[^{}]*\}|-?\d+)", "^", text)


def _raised(found: re.Match[str]) -> str:
    base, exponent = int(found[1]), int(found[2]) if len(found[2]) < 4 else EXPONENT + 1
    if not 0 <= exponent <= EXPONENT:
        return f"1/{base**-exponent}" if base and -EXPONENT <= exponent < 0 else "9" * (DIGITS + 1)
    return str(base**exponent)


def _readings(found: re.Match[str]) -> Readings:
    """Every value that a match of `NUMBER` may stand for."""
    if len(found[0]) > DIGITS or (found["power"] and abs(int(found["power"][1:][:9])) > EXPONENT):
        return ()
    sign = -1 if "-" in found["sign"] else 1
    if found["whole"]:
        over, under = map(int, found["part"].split("/"))
        return (sign * (int(found["whole"]) + Fraction(over, under)),)
    scale = Fraction(10) ** int((found["power"] or "e0")[1:]) / int(found["under"] or 1)
    return tuple(sign * value * scale for value in _values(found["value"], found["group"]))


def _values(written: str, group: str | None) -> list[Fraction]:
    """Values of digits with marks: of thousands, of decimals, or of either."""
    if group is None:
        return [Fraction(written.replace(",", "."))]
    tail = re.search(r"[.,]\d+$", written)
    if tail and tail[0][0] != group:  # 1.234,50 and 1,234.50: both marks are told apart
        return [Fraction(re.sub(r"[^\d]", "", written[: tail.start()]) + "." + tail[0][1:])]
    whole = Fraction(re.sub(r"[^\d]", "", written))
    if group == "." and written.count(".") == 1:
        return [Fraction(written), whole]
    if group == " ":  # perhaps two numbers beside one another, of which the last one counts
        return [whole, Fraction(written.rsplit(" ", 1)[1].replace(",", "."))]
    return [whole]
