"""Where a key stands that is written at the top of a file, and belongs below another key of it."""

from collections.abc import Iterator

from pydantic import BaseModel

from apo_soup.config.in_words import mappings_inside


def place_of_key(name: str, model: type[BaseModel]) -> str | None:
    """The dotted key below which a key stands in a file, the nearest to the top; None where it stands below none.

    >>> from apo_soup.config.sft import SftFile
    >>> place_of_key("split", SftFile), place_of_key("datasets", SftFile), place_of_key("weigth", SftFile)
    ('dataset_mixture.datasets', 'dataset_mixture', None)
    """
    level, seen = [("", model)], {model}
    while level:
        below = [one for place, each in level for one in _below(place, each) if one[1] not in seen]
        found = next((place for place, each in below if name in each.model_fields), None)
        if found:
            return found
        seen |= {each for _, each in below}
        level = below
    return None


def _below(place: str, model: type[BaseModel]) -> Iterator[tuple[str, type[BaseModel]]]:
    """The mappings that the keys of a mapping hold, each with its dotted key."""
    for name, field in model.model_fields.items():
        for inside in mappings_inside(field.annotation):
            yield f"{place}.{name}" if place else name, inside
