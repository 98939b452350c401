"""What a key of a stage file is declared with: its type, bounds, default and meaning, and whom it concerns.

YAML is laxer than Python: it reads `1e-4` as text, and `no` as false. The types here take what a person plainly means
and refuse the rest; pydantic does the work.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, TypedDict, Unpack

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AllowInfNan, BeforeValidator, Field, JsonValue, Strict
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

MARKS = "apo_soup"


def _no_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("not_a_number", "a boolean is no number")
    return value


def _whole(value: Any) -> Any:
    if isinstance(value, float):
        raise PydanticCustomError("not_whole", "a fraction is no whole number")
    return _no_boolean(value)


def _text(value: Any) -> Any:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return str(value)
    return value


def is_finite(value: Any) -> bool:
    """Whether a value is a number that a float can hold; a flag is none.

    >>> is_finite(0.5), is_finite(10**400), is_finite(float("nan")), is_finite(True)
    (True, False, False, False)
    """
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


def as_word(value: Any) -> Any:
    """A word of a list of words, where YAML's unquoted `no` is false."""
    return "no" if value is False else _text(value)


def in_list(value: Any) -> Any:
    """A single value where a list is expected, as YAML writers leave the brackets out."""
    return value if isinstance(value, (list, dict)) or value is None else [value]


@dataclass(frozen=True)
class Said:
    """What a type expects, in words, where they do not follow from it; and what to do about any other value."""

    words: str
    remedy: str = ""


# Bounds stand before these, where pydantic puts them into the schema that editors read.
AS_WHOLE, AS_NUMBER, FINITE = BeforeValidator(_whole), BeforeValidator(_no_boolean), AllowInfNan(False)
Whole = Annotated[int, AS_WHOLE]
Number = Annotated[float, FINITE, AS_NUMBER]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict(), BeforeValidator(_text)]
Table = Annotated[dict[str, Any], Strict()]
Texts = Annotated[list[Text], BeforeValidator(in_list, json_schema_input_type=Text | list[Text])]
Anything = Annotated[list[Any], BeforeValidator(in_list, json_schema_input_type=Any)]

# The types that a model is loaded and run in.
LoadedType = Literal["auto", "float32", "bfloat16", "float16", "float64"]
Positive = Annotated[int, Ge(1), AS_WHOLE]
# numpy's and torch's generators both take these.
Seed = Annotated[int, Ge(0), Lt(2**32), AS_WHOLE, Said("a whole number from 0 to 2**32 - 1")]
NotNegative = Annotated[int, Ge(0), AS_WHOLE]
Minutes = Annotated[float, Ge(0), FINITE, AS_NUMBER]
AboveZero = Annotated[float, Gt(0), FINITE, AS_NUMBER]
Share = Annotated[float, Ge(0), Le(1), FINITE, AS_NUMBER]
ProperShare = Annotated[float, Gt(0), Lt(1), FINITE, AS_NUMBER]


class Marks(TypedDict, total=False):
    """What is said of a key beside its type, default and meaning."""

    cosmetic: bool  # it changes what is printed, logged, kept or sent, never what is learned: no stage becomes stale
    # Its value is written into no manifest, log, sentence or report; of an address, and of a mapping that is sent to an
    # endpoint, only what may be shown.
    secret: bool
    path: bool  # it names a file or folder that is looked for beside the recipe, then in the working directory
    input: bool  # the content of what it names is hashed among the stage's inputs, so its own text decides nothing
    loading: bool  # it decides what a model is loaded as and computes, so that a reference's values depend on it
    rows: bool  # it decides what rows are made into, beside the mixture itself
    main: bool  # a reader of a report looks for it first
    adapter: bool  # only an adapter reads it
    four_bit: bool  # only a base of four bits reads it
    refused: tuple[str, str] | None  # a library knows it and no file may give it: what holds instead, and what to do


def key(default: Any = ..., meaning: str = "", **marks: Unpack[Marks]) -> Any:
    """Declare a key of a stage file.

    Args:
        default: what the key is where the file does not give it; without one, the file must.
        meaning: a sentence for the reference and for editors.
        **marks: see `Marks`.
    """
    said: dict[str, JsonValue] = {n: list(m) if isinstance(m, tuple) else True for n, m in marks.items() if m}
    extra: dict[str, JsonValue] | None = {MARKS: said} if said else None
    return Field(default, description=meaning or None, json_schema_extra=extra)


def has_mark(field: FieldInfo, mark: str) -> bool:
    """Whether a key was declared with a mark, such as `cosmetic`."""
    return bool(_marks(field).get(mark))


def why_refused(field: FieldInfo) -> tuple[str, str] | None:
    """What holds in place of a library's key that no file may give, and what to do; None for any other key."""
    told = _marks(field).get("refused")
    return (str(told[0]), str(told[1])) if isinstance(told, list) else None


def _marks(field: FieldInfo) -> Mapping[str, Any]:
    extra = field.json_schema_extra
    marks = extra.get(MARKS) if isinstance(extra, Mapping) else None
    return marks if isinstance(marks, Mapping) else {}
