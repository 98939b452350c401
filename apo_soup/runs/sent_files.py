"""The files of a stage's folder that go to the Hub, and what is sent of each.

Nothing that is sent names a place of this machine, weights aside, which are not looked through: paths in the card, in
the report and in settings become their last part, and a model with a file that names one elsewhere stays here. A folder
without a card gets one.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError
from apo_soup.runs.card import card_on_hub, card_to_send
from apo_soup.runs.machine_paths import (
    machine_places,
    place_told,
    somebodys_path,
    texts_inside,
    without_path_values,
    without_paths,
)
from apo_soup.runs.manifest import read_manifest
from apo_soup.stored_json import read_json

# Files of a stage folder that stay on this machine.
_LOCAL_FILES = ("manifest.json", "training_args.bin", "trainer_state.json")
_CARD = "README.md"
# Texts for people, in which a path is a word among others; and mappings, in which one is a value.
_TEXTS, _MAPPINGS = (".md", ".html", ".yml", ".yaml"), (".json",)
# Whose values are tokens, which may look like anything.
_VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json")
_WEIGHTS, _TEMPLATE = ".safetensors", ".jinja"
# Settings in which every character counts: templates, and tokens.
_AS_THEY_ARE = ("chat_template", "added_tokens_decoder", "additional_special_tokens", "extra_special_tokens")


@dataclass(frozen=True)
class Parcel:
    """Files to send, by their path in the repository."""

    files: dict[str, Path]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files.values())

    def listing(self) -> str:
        """A line a file, and the sum."""
        lines = [f"  {path}  {file.stat().st_size:,} bytes" for path, file in self.files.items()]
        lines += [] if _CARD in self.files else [f"  {_CARD}  the card, which is written when it is sent"]
        return "\n".join([*lines, f"  together {self.size:,} bytes"])


def parcel_of(run: Path, name: str, beside: dict[str, Path] | None = None) -> Parcel:
    """The model folder `name` of a run, and files beside it.

    Raises:
        UserError: the folder is not there, or not whole.
    """
    folder = run / name
    if read_manifest(folder) is None:
        raise UserError(f"{folder}: expected a whole model folder, got none; run the stage that makes it first")
    files = {
        str(f.relative_to(folder)): f for f in sorted(folder.rglob("*")) if f.is_file() and f.name not in _LOCAL_FILES
    }
    return Parcel(files | (beside or {}))


def sent_content(parcel: Parcel, run: Path, name: str) -> dict[str, Path | bytes]:
    """What is sent of each file, by its path in the repository: the file, or its content where that is changed.

    The repository need not be there yet, so that what may not be sent makes none.

    Raises:
        UserError: a file that is sent as it is names a place of this machine.
    """
    places = machine_places(run)
    card = without_paths(card_to_send(run, name), places)
    _require_no_place(run / name / _CARD, card, places)
    content: dict[str, Path | bytes] = {_CARD: card.encode()}
    for path, file in parcel.files.items():
        if path != _CARD:
            content[path] = _without_places(file, places)
    return content


def _without_places(file: Path, places: tuple[Path, ...]) -> Path | bytes:
    """A file without paths of this machine, or as it is where it has none; raises UserError where they must stay."""
    if file.suffix == _WEIGHTS:
        return file
    if file.suffix in _MAPPINGS and file.name not in _VOCABULARIES:
        given = read_json(file, "push", "copy the model again")
        short = without_path_values(given, places, _AS_THEY_ARE)
        template = "\n".join(texts_inside(short.get("chat_template")))
        _require_no_place(file, "\n".join(texts_inside(short)), places, template)
        return file if short == given else json.dumps(short, indent=2, ensure_ascii=False).encode()
    if file.suffix in _TEXTS:
        text = without_paths(file.read_text(encoding="utf-8"), places)
        _require_no_place(file, text, places)
        return text.encode()
    text = file.read_bytes().decode("utf-8", errors="replace")
    _require_no_place(file, text, places, text if file.suffix == _TEMPLATE else "")
    return file


def _require_no_place(file: Path, text: str, places: tuple[Path, ...], template: str = "") -> None:
    """Raise UserError where the text of a file that is sent names one of the places, or its template somebody's."""
    told = place_told(text, places) or somebodys_path(template)
    if told is not None:
        raise UserError(
            f"{file}: expected a file that names no folder of this machine, got {told} in it; take that out, or remove "
            "the file, before the model is sent"
        )


def commit_operations(content: dict[str, Path | bytes], repository: str) -> list[Any]:
    """What is sent, as huggingface_hub takes it for one commit to a repository, whose id the card then has."""
    from huggingface_hub import CommitOperationAdd  # late: a program's help must not wait for it

    operations = []
    for path, what in content.items():
        sent = str(what) if isinstance(what, Path) else what
        if path == _CARD and isinstance(sent, bytes):
            sent = card_on_hub(sent.decode(), repository).encode()
        operations.append(CommitOperationAdd(path, sent))
    return operations
