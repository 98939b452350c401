"""What changed between two values of a key, by the key inside a mapping and the entry inside a list."""

import difflib
import json
from collections.abc import Iterator
from typing import Any

# By what an entry of a list is known where its other keys changed.
IDENTITIES = ("id", "name", "model", "task", "path")
# Characters of a value in a sentence about a change, and of these before the first that differs.
_SENTENCE_CHARACTERS = 60
_BEFORE_DIFFERENCE = 20
# Changes of a key that a sentence names.
_NAMED_CHANGES = 6
_ABSENT = object()


def mapping_changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """A phrase for each change between two mappings of keys to values that JSON can hold.

    >>> mapping_changes({"a": [{"id": "x", "weight": 1.0}]}, {"a": [{"id": "y"}, {"id": "x", "weight": 0.5}]})
    ['a.0 (y) is new', 'a.1.weight was 1.0 and is 0.5']
    >>> mapping_changes({"seed": 1}, {"beta": 0.1})
    ['beta was not given and is 0.1', 'seed was 1 and is not given']
    """
    phrases = []
    for key in sorted(old.keys() | new.keys()):
        found = list(_changes(key, old.get(key, _ABSENT), new.get(key, _ABSENT)))
        more = len(found) - _NAMED_CHANGES
        phrases += found if more <= 1 else [*found[:_NAMED_CHANGES], f"{more} more changes of {key}"]
    return phrases


def _changes(name: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from _changes(f"{name}.{key}", old.get(key, _ABSENT), new.get(key, _ABSENT))
    elif isinstance(old, list) and isinstance(new, list):
        yield from _list_changes(name, old, new)
    elif old is _ABSENT or new is _ABSENT or _text(old) != _text(new):
        was, now = _told_apart(_text(old), _text(new))
        yield f"{name} was {was} and is {now}"


def _list_changes(name: str, old: list[Any], new: list[Any]) -> Iterator[str]:
    """Entries that are new, gone or changed, by their place in the list that holds them now, or held them."""
    before, after = list(map(_text, old)), list(map(_text, new))
    if before != after and sorted(before) == sorted(after):
        yield f"{name} has another order"
        return
    for kind, start, end, new_start, new_end in difflib.SequenceMatcher(None, before, after, False).get_opcodes():
        if kind == "equal":
            continue
        pairs = _paired(old[start:end], new[new_start:new_end])
        for place, entry in enumerate(old[start:end]):
            if place not in pairs.values():
                yield f"{name}.{start + place} ({_label(entry)}) is gone"
        for place, entry in enumerate(new[new_start:new_end]):
            if place in pairs:
                yield from _changes(f"{name}.{new_start + place}", old[start + pairs[place]], entry)
            else:
                yield f"{name}.{new_start + place} ({_label(entry)}) is new"


def _paired(old: list[Any], new: list[Any]) -> dict[int, int]:
    """Which new entries are old ones that changed: those known by the same name, and in lists of one length all that
    stand in the same place.
    """
    pairs: dict[int, int] = {}
    for place, entry in enumerate(new):
        same = (n for n, other in enumerate(old) if n not in pairs.values() and _identity(other) == _identity(entry))
        found = next(same, None) if _identity(entry) else None
        if found is not None:
            pairs[place] = found
    if len(old) == len(new):
        pairs |= {n: n for n in range(len(new)) if n not in pairs and n not in pairs.values()}
    return pairs


def _identity(entry: Any) -> str | None:
    """The name that an entry of a list is known by; None where it has none."""
    values = (entry.get(key) for key in IDENTITIES) if isinstance(entry, dict) else ()
    return next((value for value in values if isinstance(value, str)), None)


def _label(entry: Any) -> str:
    return _shortened(_identity(entry) or _text(entry))


def _text(value: Any) -> str:
    if value is _ABSENT:
        return "not given"
    # Half of a character, which YAML can hold, cannot be printed.
    return json.dumps(value, ensure_ascii=False, sort_keys=True).encode(errors="backslashreplace").decode()


def _told_apart(old: str, new: str) -> tuple[str, str]:
    """Two texts that differ, cut where they are long so that the difference is seen."""
    shown = _shortened(old), _shortened(new)
    if shown[0] != shown[1]:
        return shown
    differs = next((n for n, (one, other) in enumerate(zip(old, new, strict=False)) if one != other), 0)
    start = max(0, differs or min(len(old), len(new)) - 1) - _BEFORE_DIFFERENCE
    return "..." + _shortened(old[start:]), "..." + _shortened(new[start:])


def _shortened(text: str) -> str:
    return text if len(text) <= _SENTENCE_CHARACTERS else text[: _SENTENCE_CHARACTERS - 3] + "..."
