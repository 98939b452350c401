"""What to do about a value that a key does not take: the last part of a sentence about it."""

import math
import operator
import re
import types
from collections.abc import Callable, Iterator
from datetime import date
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MaxLen, MinLen

from apo_soup.config.in_words import as_written, listed_words, mappings_of, said_again
from apo_soup.config.keys import Said
from apo_soup.config.nearest import nearest

# YAML reads these words as true and false, unless they are quoted.
YAML_FLAGS = ("true", "false", "yes", "no", "on", "off")
# Kind of a bound, its attribute, when a number lies outside, and what to do then.
BOUNDS: tuple[tuple[Any, str, Callable[[Any, Any], bool], str], ...] = (
    (Ge, "ge", operator.lt, "raise it to {} or more"),
    (Gt, "gt", operator.le, "raise it above {}"),
    (Le, "le", operator.gt, "lower it to {} or less"),
    (Lt, "lt", operator.ge, "lower it below {}"),
)
# A type that a value may have, and the bounds declared with it.
Alternative = tuple[Any, list[Any]]


def remedy(kind: Any, metadata: list[Any], value: Any, instead: str = "") -> str:
    """What to write in place of a refused value.

    Args:
        kind: the type that is expected there, with `metadata` declared on it.
        instead: what else may be done, such as to leave the key out; told where the value itself does not say what was
            meant.

    >>> remedy(bool, [], "yes")
    'write it without quotes'
    >>> remedy(int, [Ge(1)], 0)
    'raise it to 1 or more'
    >>> remedy(str, [], None, "leave the key out")
    'write a value, or leave the key out'
    """
    takes = list(_alternatives(kind, metadata))
    near = nearest(value, listed_words(kind))
    meant = near or _unquoted(takes, value) or _other_number(takes, value) or _other_count(takes, value)
    if meant:
        return meant
    told = _said(takes, value) or _quoted(takes, value) or _other_type(takes, value)
    return f"{told}, or {instead}" if instead else told


def _alternatives(kind: Any, metadata: list[Any]) -> Iterator[Alternative]:
    """The plain types that a type may be, each with all that is declared on it."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        yield from _alternatives(arguments[0], [*arguments[1:], *metadata])
    elif origin in (Union, types.UnionType):
        for member in arguments:
            yield from _alternatives(member, metadata)
    else:
        yield kind, metadata


def _plain(kind: Any) -> Any:
    """A type without what stands in its brackets."""
    origin: Any = get_origin(kind)
    return kind if origin is None else origin


def _takes(takes: list[Alternative], *kinds: Any) -> bool:
    return any(_plain(kind) in kinds for kind, _ in takes)


def _said(takes: list[Alternative], value: Any) -> str:
    """What the declaration of a type says about values of that type which it does not take."""
    marks = [mark for kind, all_marks in takes if type(value) is _plain(kind) for mark in all_marks]
    return next((mark.remedy for mark in marks if isinstance(mark, Said)), "")


def _unquoted(takes: list[Alternative], value: Any) -> str:
    """That quotes made text of a flag."""
    is_flag = isinstance(value, str) and value.lower() in YAML_FLAGS and _takes(takes, bool)
    return "write it without quotes" if is_flag else ""


def _quoted(takes: list[Alternative], value: Any) -> str:
    """That YAML made a flag or a date of what is text with quotes."""
    return "put quotes around it" if isinstance(value, (bool, date)) and _takes(takes, str) else ""


def _other_number(takes: list[Alternative], value: Any) -> str:
    """How a number becomes one that is in bounds, or whole."""
    marks = next((marks for kind, marks in takes if kind in (int, float)), None)
    if marks is None or isinstance(value, bool) or not isinstance(value, (int, float)):
        return ""
    if isinstance(value, float) and not math.isfinite(value):
        return "write a finite number"
    for bound, attribute, is_outside, way in BOUNDS:
        limit = next((getattr(mark, attribute) for mark in marks if isinstance(mark, bound)), None)
        if limit is not None and is_outside(value, limit):
            return way.format(limit)
    if isinstance(value, float) and not _takes(takes, float):
        return f"write {int(value)}" if value.is_integer() else "round it"
    return "" if _said(takes, value) else "write a smaller number"


def _other_count(takes: list[Alternative], value: Any) -> str:
    """How a list or a text of the wrong length becomes one of the right length."""
    if not isinstance(value, (list, str)):
        return ""
    marks = next((marks for kind, marks in takes if type(value) is _plain(kind)), [])
    least = next((mark.min_length for mark in marks if isinstance(mark, MinLen)), 0)
    most = next((mark.max_length for mark in marks if isinstance(mark, MaxLen)), None)
    if most is not None and len(value) > most:
        return f"keep {most} of them"
    if len(value) >= least:
        return ""
    if isinstance(value, str):
        return f"write {least} or more characters"
    return f"add {least - len(value)} more" if value else f"add {'one' if least == 1 else least}"


def _other_type(takes: list[Alternative], value: Any) -> str:
    """What to write where the value is of another type."""
    needed = [n for kind, _ in takes for m in mappings_of(kind) for n, f in m.model_fields.items() if f.is_required()]
    mapping, lists = _takes(takes, dict) or any(list(mappings_of(kind)) for kind, _ in takes), _takes(takes, list)
    single = _takes(takes, str, int, float, bool, Literal)
    if value is None:
        return "write a value" if single else f"write a {'mapping' if mapping else 'list'} below it"
    if isinstance(value, list) and single:
        plain = len(value) == 1 and isinstance(value[0], (str, int, float))
        return "write the value without brackets" if plain else "write one value in place of the list"
    if isinstance(value, dict) and single:
        return "write one value in place of the mapping"
    if _takes(takes, Literal):
        return "write one of these"
    if isinstance(value, (str, int, float)) and len(set(needed)) == 1 and not single:
        return f"write {{{needed[0]}: {said_again(str(value))}}}"
    if mapping and not single:
        return "write a mapping, a line `name: value` each"
    if lists and not single:
        return "write a list in brackets"
    if _takes(takes, int, float):
        return _in_digits(value, whole=not _takes(takes, float)) if isinstance(value, str) else "write a number"
    return "write true or false" if _takes(takes, bool) else f"write text in place of {as_written(value)}"


def _in_digits(written: str, whole: bool) -> str:
    """How a text that stands for a number is written as one.

    >>> _in_digits("10%", whole=False), _in_digits("0,0001", whole=False), _in_digits("4k", whole=True)
    ('write 0.1', 'write 0.0001', 'write 4000, or 4096')
    >>> _in_digits("1,024", whole=True), _in_digits("2e3", whole=True), _in_digits("many", whole=True)
    ('write 1024', 'write 2000', 'write it in digits')
    >>> _in_digits("1,000", whole=False), _in_digits("0,001", whole=False)
    ('write 1000, or 1.0', 'write 0.001')
    """
    text = written.strip(" \"'\u201c\u201d\u201e\u2018\u2019")
    thousands = re.fullmatch(r"([0-9]{1,6})[kK]", text)
    if thousands and whole:
        return f"write {int(thousands[1]) * 1000}, or {int(thousands[1]) * 1024}"
    if re.fullmatch(r"-?[1-9][0-9]{0,2}(,[0-9]{3})+", text):
        fraction = not whole and text.count(",") == 1
        return f"write {text.replace(',', '')}" + (f", or {float(text.replace(',', '.'))}" if fraction else "")
    share = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]{1,9})?)\s?%", text)
    if share and not whole:
        return f"write {float(share[1]) / 100:.12g}"
    if not whole and re.fullmatch(r"-?[0-9]{1,9},[0-9]{1,15}", text):
        return f"write {text.replace(',', '.')}"
    if re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{0,15})?([eE][+-]?[0-9]{1,2})?", text):
        number = float(text)
        if not whole:
            return f"write {text}"
        return f"write {int(number)}" if number.is_integer() and abs(number) < 10**15 else "round it"
    return "write it in digits"
