"""Given keys as a typed model, checked one by one, with a sentence for each thing that is wrong."""

from collections.abc import Callable
from typing import TypeVar, cast

from pydantic import ValidationError

from apo_soup.config.given import Given
from apo_soup.config.in_words import as_written
from apo_soup.config.problems import behind_wrong_tags, missing_key, sentence, wrong_values
from apo_soup.config.right_part import right_part
from apo_soup.config.stage_file import Keys, nested

Typed = TypeVar("Typed", bound=Keys)


def typed_keys(
    model: type[Typed], given: Given, strange: Callable[[str], str], commanded: bool = True
) -> tuple[Typed, list[str]]:
    """Keys as far as they are right, and what is wrong with the others: one that is wrong hides no other, and what
    several of them say together is looked at with those that are right.

    Args:
        strange: the sentence about a key, by its name, that the model does not have.
        commanded: whether the command line may give keys of the file.
    """
    recipe = cast(Typed, model.model_construct())
    unknown = [name for name in given.values if name not in model.model_fields]
    problems = [strange(name if isinstance(name, str) else as_written(name)) for name in unknown]
    wrong: set[str] = set()
    for name, field in model.model_fields.items():
        if name not in given.values:
            if field.is_required():
                problems.append(missing_key(given, name, field.annotation, list(field.metadata), commanded))
                recipe.__dict__[name] = None
                wrong.add(name)
            continue
        try:
            model.__pydantic_validator__.validate_assignment(recipe, name, given.values[name])
        except ValidationError as error:
            found = list(error.errors(include_url=False))
            found += behind_wrong_tags(name, field, given.values[name], found)
            told = dict(wrong_values(given, name, field, given.values[name], found))
            problems += told.values()
            wrong |= told.keys()
            _take_right_part(recipe, name, right_part(given.values[name], found))
    return recipe, problems + _faults(recipe, given, wrong)


def _take_right_part(recipe: Keys, name: str, part: object) -> None:
    """Give a key what is right of its value, so that what it says together with others is looked at; else nothing."""
    try:
        type(recipe).__pydantic_validator__.validate_assignment(recipe, name, part)
    except ValidationError:
        recipe.__dict__.setdefault(name, None)


def _faults(recipe: Keys, given: Given, wrong: set[str]) -> list[str]:
    """A sentence for each thing that keys say together and must not.

    Args:
        wrong: dotted names of keys that are wrong by themselves, from which nothing follows.
    """
    told = []
    for name, keys in nested(recipe):
        prefix = f"{name}." if name else ""
        for fault in keys.faults():
            looked_at = {f"{prefix}{key}" for key in (fault.key, *fault.beside)}
            if not any(f"{key}.".startswith(f"{w}.") or w.startswith(f"{key}.") for key in looked_at for w in wrong):
                told.append(sentence(given, f"{prefix}{fault.key}", fault.told))
    return told
