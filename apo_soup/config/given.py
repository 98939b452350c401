"""What a person gave: the keys of a file with their lines, and the command line laid over them."""

import copy
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apo_soup.config.yaml_lines import read_value, read_yaml
from apo_soup.errors import UserError


@dataclass
class Given:
    """Keys as they were given, not checked yet: `values` by name, `lines` where they stand in the file.

    `notes` tell what was mapped; `overridden` are the dotted names that the command line set, with its `words`,
    `options` the options that one of these could have been meant for; `places` are those of keys that follow
    from another file: where it says so, and by which key; `laid` those of keys that another file lays over this one.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    overridden: set[str] = field(default_factory=set)
    words: list[str] = field(default_factory=list)
    options: tuple[str, ...] = ()
    places: dict[str, tuple[str, str]] = field(default_factory=dict)
    laid: dict[str, tuple[str, str]] = field(default_factory=dict)

    @classmethod
    def from_file(cls, path: Path, overrides: list[str], options: Sequence[str] = ()) -> "Given":
        """A file's keys with `--key value` words laid over them.

        Raises:
            UserError: the file cannot be read, is no YAML, no mapping, or gives a key twice; or a word is no key.
        """
        given = cls(path, *read_yaml(path), options=tuple(options))
        given.lay_over(overrides)
        given.words = list(overrides)
        return given

    @property
    def output_dir(self) -> str | None:
        """The folder that a stage file asks for, not checked; None where it gives no text."""
        folder = self.values.get("output_dir")
        return str(folder) if isinstance(folder, str | int) and not isinstance(folder, bool) else None

    def where(self, key: str) -> str:
        """`file:line` of a key or of what it stands in; the file and `command line` for an override."""
        return self._found(key)[0]

    def place(self, key: str) -> str:
        """`file:line: key`, as a sentence about a key begins."""
        where, name = self._found(key)
        return f"{where}: {name if name and name.isprintable() else repr(name)}"

    def follows(self, key: str) -> bool:
        """Whether a key's value follows from another file, and neither this one nor the command line gives it."""
        return key in self.places and self._found(key) == self.places[key]

    def _found(self, key: str) -> tuple[str, str]:
        """Where a key stands, and its name there."""
        parts = key.split(".")
        for end in range(len(parts), 0, -1):
            name = ".".join(parts[:end])
            for word, place in self.laid.items():
                if f"{word}.".startswith(f"{name}."):
                    return place
            if name in self.overridden:
                return f"{self.path} (command line)", key
            if self.lines.get(name):
                return f"{self.path}:{self.lines[name]}", key
            if any(word.startswith(f"{name}.") for word in self.overridden):
                return f"{self.path} (command line)", key
            inside = [line for word, line in self.lines.items() if word.startswith(f"{name}.") and line]
            if inside:
                return f"{self.path}:{inside[0]}", key
            if name in self.places:
                return self.places[name]
        return str(self.path), key

    def copy(self) -> "Given":
        """The same keys, to be changed on their own; what was mapped in the file is not told twice."""
        values, overridden, laid = copy.deepcopy(self.values), set(self.overridden), dict(self.laid)
        places = dict(self.places)
        return Given(self.path, values, dict(self.lines), [], overridden, self.words, self.options, places, laid)

    def lay_over(self, words: list[str]) -> None:
        """Lay `--key value` or `--key=value` words over the values; they are read as YAML.

        Raises:
            UserError: a word is no key, or names a place that the file does not have.
        """
        words, who = list(words), f"{self.path} (command line)"
        while words:
            word = words.pop(0)
            if not word.startswith("--"):
                raise UserError(f"{who}: expected --key value, got {word!r}; write the key with two dashes")
            name, _, text = word[2:].partition("=")
            if not name:
                raise UserError(f"{who}: expected --key value, got {word!r}; name a key of the file")
            if "=" not in word:
                if not words or (words[0].startswith("--") and not re.match(r"^-?-?\d", words[0])):
                    text = "true"
                else:
                    text = words.pop(0)
            first, dot, rest = name.partition(".")
            name = first.replace("-", "_") + dot + rest
            self.set(name, read_value(text))
            self.overridden.add(name)

    def set(self, name: str, value: Any, giver: str = "") -> None:
        """Set the value at a dotted name.

        Args:
            giver: who gives it, for the sentence; the command line unless told.

        Raises:
            UserError: the file has nothing to reach into.
        """
        who = giver or f"{self.path} (command line): {name}"
        *path, last = name.split(".")
        place: Any = self.values
        for step in path:
            try:
                place = place[int(step)] if isinstance(place, list) else place.setdefault(step, {})
            except (ValueError, IndexError, AttributeError):
                raise UserError(
                    f"{who}: expected a name that leads somewhere, got {step}, which is not there; correct the name"
                ) from None
        try:
            place[int(last) if isinstance(place, list) else last] = value
        except (ValueError, IndexError, TypeError):
            raise UserError(
                f"{who}: expected a name that leads somewhere, got {last}, which is not there; correct the name"
            ) from None
        for known in [k for k in self.lines if k == name or k.startswith(f"{name}.")]:
            del self.lines[known]
