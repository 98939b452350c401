"""JSON files that a program here left behind, read back: each may be cut, empty or of another form by then.

A form is a pydantic model of what is read of such a file; what else stands in it is nobody's concern here.
"""

import json
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from apo_soup.errors import UserError, first_line

# More is a number that Python could not even write.
Count = Annotated[int, Field(ge=0, lt=2**63)]
# By pydantic's names of errors.
_EXPECTED = {
    "model_type": "a mapping",
    "dict_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "greater_than_equal": "a number of 0 or more",
    "too_short": "at least one entry",
    "extra_forbidden": "no such key",
}
_WORDS = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", type(None): "null"}


class Form(BaseModel):
    """What is read of a file; keys that it does not name are left alone, values are taken as they are."""

    model_config = ConfigDict(extra="allow", strict=True)


class OtherFormError(ValueError):
    """A file holds something else: `KEY: expected A, got B`, without its place and what to do."""


def json_of_form(path: Path, form: type[Form]) -> dict[str, Any]:
    """The mapping that a file holds, as it stands there.

    Raises:
        OSError: the file cannot be read.
        OtherFormError: it is no JSON, or of another form.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise OtherFormError(f"expected valid JSON, got what is none ({first_line(error)})") from error
    told = form_fault(content, form)
    if told:
        raise OtherFormError(told)
    return content


def form_fault(content: Any, form: type[Form]) -> str | None:
    """What of a value is not of a form: `KEY: expected A, got B`; None where it is."""
    try:
        form.model_validate(content)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        place = ".".join(map(str, wrong["loc"]))
        if wrong["type"] == "missing":
            return f"expected {place}, got nothing"
        expected = _EXPECTED.get(wrong["type"]) or wrong["msg"].removeprefix("Input should be ")
        return f"{place}: expected {expected}, got {_kind(wrong['input'])}".removeprefix(": ")
    return None


def read_json(
    path: Path, where: str | Path, way: str = "write the file anew", form: type[Form] = Form
) -> dict[str, Any]:
    """As `json_of_form`, where nothing but a sentence helps; `way` is what to do.

    Raises:
        UserError: the file cannot be read, or is of another form.
    """
    try:
        return json_of_form(path, form)
    except OtherFormError as error:
        place = path if Path(where) in path.parents else f"{where}: {path}"
        raise UserError(f"{place}: {error}; {way}") from error
    except OSError as error:
        raise UserError(
            f"{where}: expected a file that can be read, got {path}: {error.strerror}; check its permissions"
        ) from error


def _kind(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 2**63:  # formatting it would overflow a float
        return "a number of too many digits"
    return _WORDS.get(type(value)) or f"the number {value:g}"
