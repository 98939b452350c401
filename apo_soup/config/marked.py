"""Keys of all kinds of stage files by the marks that they are declared with."""

from functools import cache

from pydantic import BaseModel

from apo_soup.config.in_words import mappings_inside
from apo_soup.config.keys import has_mark
from apo_soup.config.load import KINDS, file_model


@cache
def marked_names(mark: str) -> tuple[str, ...]:
    """The names of the keys that a stage file of any kind declares with a mark, such as `secret`, at any depth; each
    once, in the order in which they are declared, those of a file before those inside it.
    """
    found: dict[str, None] = {}
    waiting: list[type[BaseModel]] = [file_model(kind) for kind in KINDS]
    while waiting:
        for name, field in waiting.pop(0).model_fields.items():
            waiting += mappings_inside(field.annotation)
            if has_mark(field, mark):
                found[name] = None
    return tuple(found)
