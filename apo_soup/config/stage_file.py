"""What every stage file is: a typed model that knows where its keys stand and which of them were given."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, PrivateAttr

from apo_soup.config.cosmetic import without_cosmetic
from apo_soup.config.given import Given
from apo_soup.config.keys import Text, has_mark, key


class Fault(NamedTuple):
    """What is wrong beyond a single key's type.

    `key` is dotted where it lies deeper, `told` the rest of the sentence. `beside` are the other keys that were looked
    at; where one of them is wrong by itself, nothing follows from it.
    """

    key: str
    told: str
    beside: tuple[str, ...] = ()


class Remark(NamedTuple):
    """What a person should know of right keys; `key` and `told` as a Fault's."""

    key: str
    told: str


class Keys(BaseModel):
    """A mapping of declared keys, at the top of a file or inside it."""

    # Built when first used: a command checks files of one or two kinds, and builds nothing for the others.
    model_config = ConfigDict(extra="forbid", protected_namespaces=(), use_enum_values=True, defer_build=True)

    _dotted: str = PrivateAttr(default="")
    _as_written: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def dotted(self) -> str:
        """The dotted name of the mapping in its file; empty for the file itself."""
        return self._dotted

    def gives(self, name: str) -> bool:
        """Whether the key was given, whatever its value; a default is not."""
        return name in self.model_fields_set

    def differs(self, name: str) -> bool:
        """Whether the key was given, and as another value than its default or null."""
        value = self.__dict__[name]
        return self.gives(name) and value is not None and value != type(self).model_fields[name].default

    def values_with(self, mark: str) -> dict[str, Any]:
        """The keys that were declared with a mark, such as `rows`, and their values, defaults among them."""
        return {n: self.__dict__[n] for n, field in type(self).model_fields.items() if has_mark(field, mark)}

    def given_with(self, mark: str) -> dict[str, Any]:
        """The keys with a mark that were given as something, and their values."""
        return {n: v for n, v in self.values_with(mark).items() if self.gives(n) and v is not None}

    def written(self, name: str) -> Any:
        """The value of a key as the file has it, before its path was looked for."""
        return self._as_written.get(name, self.__dict__[name])

    def given_values(self) -> dict[str, Any]:
        """The keys that were given, as checked and converted, nested mappings too. Defaults are left out, so that a
        key that a later release adds makes no finished stage stale. The mapping's own paths stand as they were
        written, whichever folder they were found in.
        """
        return {**self.model_dump(exclude_unset=True), **self._as_written}

    def faults(self) -> Iterator[Fault]:
        """Keys that are right by themselves and not together.

        Raises:
            UserError: a library, whose source says what its keys take, is not installed.
        """
        yield from ()

    def remarks(self) -> Iterator[Remark]:
        """What follows from the keys and does not stand in the file: a note each."""
        yield from ()


class OpenKeys(Keys):
    """A mapping whose other keys are a library's to judge."""

    model_config = ConfigDict(extra="allow")


class StageFile(Keys):
    """A checked stage file. `load` makes it; the keys of its kind are its attributes."""

    kind: ClassVar[str]

    output_dir: Text = key(meaning="folder that the stage makes, below the working directory", cosmetic=True)

    _given: Given = PrivateAttr(default_factory=lambda: Given(Path(), {}))
    _member: int | None = PrivateAttr(default=None)
    _as_given: dict[str, Any] = PrivateAttr(default_factory=dict)

    @property
    def path(self) -> Path:
        """The file."""
        return self._given.path

    @property
    def notes(self) -> list[str]:
        """What was mapped, found in two places, or has no effect: a line each, to be told once."""
        return self._given.notes

    @property
    def command_words(self) -> list[str]:
        """The `--key value` words of the command line that were laid over the file."""
        return self._given.words

    @property
    def member(self) -> int | None:
        """The number of the soup member whose keys these are, counted from 1; None for a file as it stands."""
        return self._member

    def where(self, key: str) -> str:
        """`FILE:LINE` of a key (nested keys joined by dots), or the file and `command line` for an override."""
        return self._given.where(key)

    def place(self, key: str) -> str:
        """`FILE:LINE: KEY`, as a sentence about a key begins."""
        return self._given.place(key)

    def follows(self, name: str) -> bool:
        """Whether a key, by its dotted name, follows from the `recipe.yaml` beside the file."""
        return self._given.follows(name)

    def is_given_by_command(self, name: str) -> bool:
        """Whether a word of the command line, by its dotted name, reaches these keys: a soup member's own keys stand
        over those of the file, and other members have theirs.
        """
        if self.member is None:
            return True
        first, _, number = name.partition(".")
        if first == "members":
            return number.partition(".")[0] in ("", str(self.member - 1))
        return name in self._given.overridden

    def raw(self) -> Given:
        """A copy of what was given, before it was checked, to lay a member's keys over."""
        return self._given.copy()

    def given_values(self) -> dict[str, Any]:
        """As `Keys.given_values`, with the paths of nested mappings as they were written too."""
        return copy.deepcopy(self._as_given)

    @property
    def settled_elsewhere(self) -> frozenset[str]:
        """Keys that decide nothing in this file, since another of its keys says what they would."""
        return frozenset()

    def deciding_values(self) -> dict[str, Any]:
        """The given keys that can change what the stage makes: neither cosmetic ones, at any depth, nor those of the
        file itself that name something whose content is hashed among the stage's inputs, nor what another key settles.
        """
        inputs = {name for name, field in type(self).model_fields.items() if has_mark(field, "input")}
        deciding = without_cosmetic(self.given_values(), type(self))
        return {k: v for k, v in deciding.items() if k not in inputs | self.settled_elsewhere}


def nested(node: Any, name: str = "") -> Iterator[tuple[str, Keys]]:
    """Every mapping of declared keys in a value, with its dotted name; the outermost first."""
    if isinstance(node, Keys):
        yield name, node
        for field in type(node).model_fields:
            inside = node.__dict__.get(field)
            if isinstance(inside, (Keys, list, dict)):
                yield from nested(inside, f"{name}.{field}" if name else field)
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from nested(value, f"{name}.{number}")
