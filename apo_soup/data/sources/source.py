"""Where rows come from: one entry of a mixture."""

from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

from apo_soup.config.mixture import SourceKeys, TrainedSourceKeys


@dataclass(frozen=True)
class Source:
    """One entry of `dataset_mixture.datasets`.

    `id` is where the rows are, a path or an id of the Hub, and `written_id` that id as the recipe has it, where it is
    another. `weight` is the share of rows kept; above 1 repeats rows. `format` is the name of a format
    (`apo_soup.data.conversations.formats`), recognised from the rows when it is None; `rename` maps the columns of the
    data to the names a format knows.
    `chat_template_kwargs` are the template arguments of its rows, below those that a row has itself. `keep_nulls` keeps
    nulls inside calls and tools; `turn_order` says what is done with turns in an unusual order, `system_turn` with the
    system text. `listing` tells apart the entries of a mixture that name the same rows. `mode` says how the mode of a
    row is found that states none: by what it holds, or `assumed` to be no-think from the first rows
    (`apo_soup.data.conversations.source_mode`).
    """

    id: str
    config: str | None = None
    split: str = "train"
    revision: str | None = None
    columns: tuple[str, ...] | None = None
    weight: float = 1.0
    format: str | None = None
    rename: tuple[tuple[str, str], ...] = ()
    streaming: bool = False
    chat_template_kwargs: tuple[tuple[str, Any], ...] = ()
    keep_nulls: bool = False
    turn_order: str | None = None
    system_turn: str | None = None
    listing: int = 1
    written_id: str | None = None
    mode: Literal["by_row", "assumed"] | None = None
    place: str = ""

    @classmethod
    def from_entry(cls, entry: SourceKeys, place: str = "") -> "Source":
        """From a recipe's entry, which stands at `place` (file, line and key)."""
        trained = entry if isinstance(entry, TrainedSourceKeys) else None
        return cls(
            id=entry.id,
            config=entry.config,
            split=entry.split,
            revision=entry.revision,
            columns=tuple(entry.columns) if entry.columns else None,
            weight=entry.weight,
            format=entry.format,
            rename=tuple((entry.rename or {}).items()),
            streaming=entry.streaming,
            chat_template_kwargs=tuple(template_arguments(entry.chat_template_kwargs).items()),
            keep_nulls=entry.keep_nulls,
            turn_order=trained.turn_order if trained else None,
            system_turn=trained.system_turn if trained else None,
            written_id=entry.written_id,
            mode=trained.mode if trained else None,
            place=place,
        )

    @property
    def name(self) -> str:
        """What tables and messages call this source; one that is listed again has a number."""
        usual = self.config is None and self.split == "train"
        written = self.written_id or self.id
        name = written if usual else ":".join(p for p in (written, self.config, self.split) if p)
        return name if self.listing == 1 else f"{name} #{self.listing}"


def template_arguments(given: dict[str, Any] | None) -> dict[str, Any]:
    """A recipe's template arguments; YAML reads 2025-07-01 as a date, and templates write text."""
    return {k: str(v) if isinstance(v, date) else v for k, v in (given or {}).items()}
