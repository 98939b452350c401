"""Ids of tokens in a merged model's settings, where it has another tokenizer than the model they were written for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from apo_soup.stored_json import read_json

OWN_TOKENS = ("bos_token", "eos_token", "pad_token")
# Settings of generation that hold ids beside those whose names end so.
_ID_LISTS = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids")
_ID_END = "_token_id"


def special_token_id(folder: Path, name: str) -> int | None:
    """The id of a special token of the folder's tokenizer, or None where it has no such token.

    Raises:
        UserError: a file of the tokenizer cannot be read, or is of another form.
    """
    settings, tokens = folder / "tokenizer_config.json", folder / "tokenizer.json"
    if not settings.is_file() or not tokens.is_file():
        return None
    token = read_json(settings, folder).get(name)
    token = token.get("content") if isinstance(token, dict) else token
    return None if token is None else Tokenizer.from_file(str(tokens)).token_to_id(token)


def translated_ids(settings: Mapping[str, Any], parent: Path, folder: Path) -> dict[str, Any]:
    """Settings of the parent with the ids that its tokens have in the folder's tokenizer; an id whose token is not
    there is left out, and a setting without any left is None. Equal tokenizers, and such as cannot be read, change
    nothing.
    """
    if not _other_tokens(parent, folder):
        return dict(settings)
    old, new = (Tokenizer.from_file(str(place / "tokenizer.json")) for place in (parent, folder))

    def translated(value: Any) -> Any:
        if isinstance(value, list):
            kept = [one for one in map(translated, value) if one is not None]
            return kept or None
        if isinstance(value, bool) or not isinstance(value, int):
            return value
        text = old.id_to_token(value)
        return None if text is None else new.token_to_id(text)

    return {k: translated(v) if k.endswith(_ID_END) or k in _ID_LISTS else v for k, v in settings.items()}


def with_special_tokens(config: Mapping[str, Any], parent: Path, folder: Path) -> dict[str, Any]:
    """The parent's configuration with the ids of the folder's own special tokens, where the tokenizers differ.

    Raises:
        UserError: a file of the tokenizer cannot be read, or is of another form.
    """
    translated = translated_ids(config, parent, folder)
    for name in OWN_TOKENS if _other_tokens(parent, folder) else ():
        key, own = f"{name}_id", special_token_id(folder, name)
        kept = translated.get(key)
        if own is not None and own not in (kept if isinstance(kept, list) else [kept]):
            translated[key] = own
    return translated


def _other_tokens(parent: Path, folder: Path) -> bool:
    """Whether two folders have tokenizers that can be read, and not the same."""
    files = [place / "tokenizer.json" for place in (parent, folder)]
    return all(file.is_file() for file in files) and files[0].read_bytes() != files[1].read_bytes()
