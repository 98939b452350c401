"""Mistakes in a stage file as sentences: `FILE:LINE: KEY: expected A, got B; do C`."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from apo_soup.config.faulty_place import FaultyPlace, faulty_place, kind_word, model_by_tag, tags_of
from apo_soup.config.given import Given
from apo_soup.config.in_words import as_written, expectation, mappings_of
from apo_soup.config.nearest import near_word, nearest
from apo_soup.config.remedies import remedy
from apo_soup.config.renamed import GONE, MEANT, RENAMED

KEYS_PAGE = "docs/recipes.md"


def in_file_order(problems: list[str]) -> list[str]:
    """Sentences by the line they name; those without one first."""

    def line(problem: str) -> int:
        found = re.match(r".*?:(\d+): ", problem)
        return int(found[1]) if found else 0

    return sorted(problems, key=line)


def sentence(given: Given, name: str, what: str) -> str:
    """One mistake, with the place of its key."""
    return f"{given.place(name)}: {what}"


def unknown_key(given: Given, name: str, known: list[str]) -> str:
    """That a key is unknown, and the near one that was meant, of a word of the command line the near option too; else
    where the keys are listed.
    """
    gone = GONE.get(name)
    if gone:
        return sentence(given, name, f"expected a key that is still read, got one that {gone}")
    options = given.options if name in given.overridden and "." not in name else ()
    words = {option.lstrip("-").replace("-", "_"): option for option in options} | {key: key for key in known}
    meant = meant_key(name)
    near = meant if meant in words else near_word(name.rpartition(".")[2], words)
    way = (
        f"the nearest is {words[near]}"
        if near
        else f"remove it, or find its name in {'--help or ' * bool(options)}{KEYS_PAGE}"
    )
    what = "key or option" if options else "key"
    return sentence(given, name, f"expected a known {what}, got an unknown one; {way}")


def meant_key(name: str) -> str | None:
    """The key that another program, or an older release, has this name for."""
    return MEANT.get(name) or RENAMED.get(name, (None, ""))[0]


def missing_key(given: Given, name: str, kind: Any, metadata: list[Any], commanded: bool = True) -> str:
    """That a key which must be there is not; `commanded` where the command line may give keys of its file."""
    place, _, last = name.rpartition(".")
    where = given.where(place) if place else str(given.path)
    way = f"add {last} to it" if place else f"add it, or give --{name} VALUE" if commanded else "add it"
    return f"{where}: {name}: expected {expectation(kind, metadata)}, got nothing; {way}"


def wrong_values(given: Given, name: str, field: FieldInfo, value: Any, errors: list[Any]) -> Iterator[tuple[str, str]]:
    """The dotted name of each place inside a key's value that pydantic found fault with, and a sentence about it.

    A place is left out where something inside it is told: that a mapping was no text, beside a fault of the mapping.

    Args:
        errors: pydantic's, whose `loc` begins with the key's name, and those of `behind_wrong_tags`.
    """
    found: dict[str, tuple[Any, FaultyPlace]] = {}
    for error in errors:
        place = faulty_place(name, field, value, _steps(error), error["type"])
        told = f"{place.name}.{as_written(error['input'])}" if _is_wrong_key(error) else place.name
        if error["type"].startswith("union_tag"):
            told = f"{told}.{_discriminator(error)}"
        found.setdefault(told, (error, place))
    for told, (error, place) in found.items():
        if not any(other.startswith(f"{told}.") for other in found):
            yield told, _sentence(given, told, place, error)


def _sentence(given: Given, name: str, place: FaultyPlace, error: Any) -> str:
    """What is wrong with a place."""
    if _is_wrong_key(error):
        way = "remove it" if list(mappings_of(place.kind)) else "put quotes around it"
        return sentence(given, name, f"expected text as the key, got {as_written(error['input'])}; {way}")
    if error["type"] == "extra_forbidden" and place.around:
        return _misplaced_key(given, place, error["loc"])
    if error["type"] == "missing":
        return missing_key(given, name, place.kind, place.metadata)
    if error["type"].startswith("union_tag"):
        return _wrong_tag(given, name, place, _discriminator(error))
    expected, got = expectation(place.kind, place.metadata), shown_value(place.secret, place.value)
    way = remedy(place.kind, place.metadata, place.value, place.instead)
    if place.secret:
        way = way.replace(as_written(place.value), "it")
    return sentence(given, name, f"expected {expected}, got {got}; {way}")


def shown_value(secret: bool, value: Any) -> str:
    """A value as a sentence may have it: a secret one not at all."""
    return "a value that is not shown" if secret else as_written(value)


def _is_wrong_key(error: Any) -> bool:
    return "[key]" in error["loc"] or error["type"] == "invalid_key"


def _steps(error: Any) -> tuple[Any, ...]:
    """The steps from a key's value to what an error is about; to the mapping where it is about one of its keys."""
    end = -2 if "[key]" in error["loc"] else -1 if _is_wrong_key(error) else None
    return tuple(error["loc"][1:end])


def _discriminator(error: Any) -> str:
    """The key by which a mapping's kind is told."""
    return str(error["ctx"]["discriminator"]).strip("'")


def behind_wrong_tags(name: str, field: FieldInfo, value: Any, errors: list[Any]) -> Iterator[Any]:
    """The other errors of mappings whose kind is misspelt, as of the kind that was meant, for pydantic looks no
    further.

    Args:
        errors: pydantic's, whose `loc` begins with the key's name.
    """
    for error in errors:
        if not error["type"].startswith("union_tag"):
            continue
        place = faulty_place(name, field, value, _steps(error), error["type"])
        discriminator, keys = _discriminator(error), place.value
        tags = {tag: model for model in mappings_of(place.kind) for tag in tags_of(model, discriminator)}
        tag = near_word(keys.get(discriminator), tags) if isinstance(keys, dict) else None
        if tag is None:
            continue
        try:
            tags[tag].model_validate({**keys, discriminator: tag})
        except ValidationError as wrong:
            found = wrong.errors(include_url=False)
            yield from ({**inner, "loc": (*error["loc"], tag, *inner["loc"])} for inner in found)


def _wrong_tag(given: Given, name: str, place: FaultyPlace, discriminator: str) -> str:
    """That a mapping is of no kind that stands there."""
    tags = [tag for model in mappings_of(place.kind) for tag in tags_of(model, discriminator)]
    tag = place.value.get(discriminator) if isinstance(place.value, dict) else None
    way = nearest(tag, tags) or ("write one of these" if tag is not None else f"add {discriminator} to it")
    got = "nothing" if tag is None else as_written(tag)
    return sentence(given, name, f"expected one of {', '.join(tags)}, got {got}; {way}")


def _misplaced_key(given: Given, place: FaultyPlace, steps: tuple[Any, ...]) -> str:
    """That a mapping has no such key; where a mapping of another kind has it, which."""
    last = place.name.rpartition(".")[2]
    model = model_by_tag(place.around, steps) or place.around[0]
    others: list[type[BaseModel]] = [m for m in place.around if last in m.model_fields and m is not model]
    if not others:
        return unknown_key(given, place.name, list(model.model_fields))
    of_others = " and ".join(kind_word(m) for m in others)
    return sentence(given, place.name, f"expected a key of {kind_word(model)}, got one of {of_others}; leave it out")
