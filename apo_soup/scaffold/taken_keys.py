"""The keys of another project's configuration as they are taken here, with what became of each."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from apo_soup.config.in_words import as_written
from apo_soup.config.load import file_model
from apo_soup.config.renamed import RENAMED
from apo_soup.runs.sources import is_local
from apo_soup.scaffold.foreign_keys import ForeignKeys
from apo_soup.scaffold.model_seen import path_from
from apo_soup.tables import text_table

_NUMBER = re.compile(r"\d+(\.\d+)?[eE]-?\d+")
# Above it is no number of rows or epochs.
_MOST = 1e12


@dataclass
class Fate:
    """What became of a key: the keys of ours that it is, or what it is in words; and why it is left out, or in part."""

    key: str
    taken: dict[str, Any] = field(default_factory=dict)
    why: str = ""
    told: str = ""

    @property
    def words(self) -> str:
        """What it is here."""
        taken = ", ".join(f"{name}: {as_written(value)}" for name, value in self.taken.items())
        return taken or self.told or "left out"


@dataclass
class Converted:
    """A configuration's keys as a stage file's.

    Attributes:
        kind: sft or apo.
        keys: the stage file's.
        fate: what became of every key that says something.
        data: rows, `base` the model.
    """

    kind: str
    foreign: ForeignKeys
    base: str = ""
    keys: dict[str, Any] = field(default_factory=dict)
    sources: list[dict[str, Any]] = field(default_factory=list)
    held_out: Any = None
    deduplicate: str | None = None
    fate: list[Fate] = field(default_factory=list)

    def take(self, key: str, keys: dict[str, Any]) -> None:
        """Take a key as keys of ours, or leave it out where it is none, or where another key says otherwise."""
        other = next((name for name, value in keys.items() if name in self.keys and self.keys[name] != value), None)
        if other:
            holder = next((fate.key for fate in self.fate if other in fate.taken), "another key")
            self.leave(key, f"{holder} says {other}: {as_written(self.keys[other])}")
        elif keys:
            self.keys |= keys
            self.fate.append(Fate(key, keys))
        else:
            self.leave(key, self.foreign.reason(key))

    def take_defaults(self, defaults: dict[str, Any]) -> None:
        """Write the project's own defaults, where its file gives no other value and those here differ."""
        missing = {name: value for name, value in defaults.items() if name not in self.keys}
        self.keys |= missing
        self.fate += [Fate(f"default of {name}", {name: value}) for name, value in missing.items()]

    @property
    def mixture(self) -> dict[str, Any]:
        """The sources, and what holds for all of them."""
        held = {"test_split_size": self.held_out, "deduplicate": self.deduplicate}
        return {"datasets": self.sources, "seed": 0, **{name: value for name, value in held.items() if value}}

    def keep_evaluations(self, held_out_by: str) -> None:
        """Evaluate where steps for it are given and rows are held out; without such rows leave its keys out."""
        if self.held_out and "eval_steps" in self.keys:
            self.take_defaults({"eval_strategy": "steps"})
        elif not self.held_out:
            for key in [name for name in ("eval_steps", "eval_on_start") if name in self.keys]:
                self.drop(key, f"no rows are held out ({held_out_by})")

    def drop(self, key: str, why: str) -> None:
        """Leave out a key of ours that was taken."""
        del self.keys[key]
        for fate in self.fate:
            if key in fate.taken:
                del fate.taken[key]
                fate.why = why

    def leave(self, key: str, why: str) -> None:
        """Leave a key out."""
        self.fate.append(Fate(key, why=why))

    def table(self) -> str:
        """What became of every key."""
        return text_table(["key", "taken as", "why not"], [[fate.key, fate.words, fate.why] for fate in self.fate])

    def take_source(self, key: str, source: dict[str, Any], left: list[tuple[str, str]], folder: Path) -> None:
        """Take a source of rows, found from a folder; `left` are keys of it that are left out, each with a reason."""
        if source:
            place = path_from(folder, source["id"]) if is_local(source["id"]) else source["id"]
            self.sources.append({**source, "id": place})
            self.fate.append(Fate(key, told=f"dataset_mixture: {as_written(source)}"))
        for name, why in left:
            self.leave(name, why)

    def hold_out(self, key: str, written: Any) -> None:
        """Take a key as the size of the held-out part."""
        size = counted(written)
        if size is not None and size > 0:
            self.held_out = int(size) if size >= 1 else size
            self.fate.append(Fate(key, told=f"dataset_mixture.test_split_size: {self.held_out}"))
        elif written not in (None, "", False, 0):
            self.leave(key, f"expected a share or a number of rows, got {as_written(written)}")

    def take_all(self, values: dict[str, Any], done: tuple[str, ...], first: tuple[str, ...] = ()) -> None:
        """Take every key that says something and is not done yet; of two for one key of ours, the same whatever their
        order is: one of `first`, else the one of the same name, else the first of the table.
        """
        foreign, known = self.foreign, file_model(self.kind).model_fields
        if values.get("warmup_steps") == 0:  # which the projects take for a key that is not given
            first = (*first, "warmup_ratio")
        table = [*first, *known, *foreign.values, *foreign.renamed]
        at_first = len(self.fate)
        for key in sorted(values, key=lambda key: table.index(key) if key in table else len(table)):
            written = values[key]
            # YAML reads 2e-4 as text.
            value = float(written) if isinstance(written, str) and _NUMBER.fullmatch(written) else written
            if value in (None, "", [], {}) or key in done:
                continue
            if key in foreign.values:
                self.take(key, foreign.values[key](value))
            elif key in foreign.renamed:
                self.take(key, {foreign.renamed[key]: value} if foreign.renamed[key] in known else {})
            elif key in known and key not in foreign.left_out:
                self.take(key, {key: value})
            elif key in RENAMED and value is not False:
                now, why = RENAMED[key]
                self.take(key, {now: value}) if now in known else self.leave(key, why)
            elif value is not False:
                self.take(key, {})
        order = list(values)
        self.fate[at_first:] = sorted(self.fate[at_first:], key=lambda fate: order.index(fate.key))


def counted(value: Any) -> float | None:
    """A value that is a number which can be counted with; None of any other."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if abs(value) < _MOST else None
