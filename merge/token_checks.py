"""Models whose tokens, ends of turn or chat templates differ."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from apo_soup.errors import UserError
from apo_soup.runs.known_hashes import content_hash
from apo_soup.stored_json import read_json

# Files that hold a vocabulary beside tokenizer.json, or in its place.
OTHER_VOCABULARIES = ("tokenizer.model", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tekken.json")


def check_tokenizers(folders: list[Path], where: str, own_template: bool = False) -> None:
    """Refuse models whose tokens or, without `own_template`, chat templates differ, where both say what theirs are.

    Raises:
        UserError: naming what differs, in which folders, and the key that says which is meant.
    """
    for read, what, key in (
        (_tokens, "tokens", "tokenizer_source"),
        (_end_of_turn, "end-of-turn token", "tokenizer_source"),
        (_template, "chat template", "chat_template"),
    ):
        if own_template and key == "chat_template":
            continue
        _require_same(folders, read, where, what, key)
    # Without tokenizer.json a vocabulary is known by the bytes of its file.
    if not all((folder / "tokenizer.json").is_file() for folder in folders):
        for name in OTHER_VOCABULARIES:
            _require_same(folders, _hash_of(name), where, f"tokens ({name})", "tokenizer_source")


def _require_same(folders: list[Path], read: Callable[[Path, str], Any], where: str, what: str, key: str) -> None:
    """Refuse folders of which `read` gives two values, where it gives one."""
    known = [(folder, value) for folder in folders if (value := read(folder, where)) is not None]
    for folder, value in known[1:]:
        if value != known[0][1]:
            raise UserError(
                f"{where}: {folder}: {what}: expected that of {known[0][0]}, got another; take models of one "
                f"family, or say which is meant with mergekit's key {key}"
            )


def _hash_of(name: str) -> Callable[[Path, str], str | None]:
    return lambda folder, where: content_hash(folder / name) if (folder / name).is_file() else None


def _tokens(folder: Path, where: str) -> Any:
    """Vocabulary and added tokens of `tokenizer.json`; None without that file."""
    file = folder / "tokenizer.json"
    if not file.is_file():
        return None
    tokenizer = read_json(file, where)
    return tokenizer.get("model", {}).get("vocab"), [(t["id"], t["content"]) for t in tokenizer.get("added_tokens", [])]


def _end_of_turn(folder: Path, where: str) -> Any:
    """The text of the end-of-turn token; None where the folder does not say."""
    settings = folder / "tokenizer_config.json"
    end = read_json(settings, where).get("eos_token") if settings.is_file() else None
    return end.get("content") if isinstance(end, dict) else end


def _template(folder: Path, where: str) -> str | None:
    """The text of the chat template, of several named ones that of conversations; None where the folder has none."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8").strip()
    settings = folder / "tokenizer_config.json"
    template = read_json(settings, where).get("chat_template") if settings.is_file() else None
    if isinstance(template, list):
        named = (each for each in template if isinstance(each, dict) and each.get("name") == "default")
        template = next(named, {}).get("template")
    return template.strip() if isinstance(template, str) else None


def template_note(merged: Path, folders: list[Path], where: str) -> str | None:
    """That a merged folder has no chat template, and a model of the merge has one; None where that is not so.

    Raises:
        UserError: a file of a tokenizer cannot be read, or is of another form.
    """
    if _template(merged, where) is not None:
        return None
    has = next((folder for folder in folders if _template(folder, where) is not None), None)
    if has is None:
        return None
    return f"the merged folder has no chat template, and {has} has one; write chat_template: auto to take it"
