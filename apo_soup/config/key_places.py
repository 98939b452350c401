"""Where a key stands that is written at the top of a file, and belongs below another key of it."""

from collections.abc import Iterable, Iterator

from pydantic import BaseModel

from apo_soup.config.in_words import mappings_inside


def places_of_key(name: str, model: type[BaseModel], beside: Iterable[str] = ()) -> list[str]:
    """The dotted keys below which a key stands in a file: those nearest to the top, and all others of the same
    mappings. Where keys that stand `beside` it at the top belong below one of these alone, that one.

    >>> from apo_soup.config.merge import MergeFile
    >>> places_of_key("metric", MergeFile), places_of_key("weigth", MergeFile)
    (['soup', 'sweep'], [])
    >>> places_of_key("dtype", MergeFile), places_of_key("dtype", MergeFile, ["merge_method"])
    (['soup', 'merge'], ['merge'])
    """
    places = _places(name, model)
    if len(places) > 1:
        others = [_places(other, model) for other in beside if other not in (name, *model.model_fields)]
        alone = {only for only, *more in filter(None, others) if not more}
        return [place for place in places if place in alone] or places
    return places


def _places(name: str, model: type[BaseModel]) -> list[str]:
    found = [(place, each) for place, each in _all_below("", model, ()) if name in each.model_fields]
    least = min((place.count(".") for place, _ in found), default=0)
    nearest = {each for place, each in found if place.count(".") == least}
    return list(dict.fromkeys(sorted((p for p, each in found if each in nearest), key=lambda p: p.count("."))))


def _all_below(
    place: str, model: type[BaseModel], around: tuple[type[BaseModel], ...]
) -> Iterator[tuple[str, type[BaseModel]]]:
    """The mappings inside a mapping, each with its dotted key; none again inside of itself."""
    for name, field in model.model_fields.items():
        for inside in mappings_inside(field.annotation):
            if inside not in (*around, model):
                below = f"{place}.{name}" if place else name
                yield below, inside
                yield from _all_below(below, inside, (*around, model))
