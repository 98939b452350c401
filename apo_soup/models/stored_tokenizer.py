"""A model's tokenizer read from its files alone: no transformers, for `check` and a sweep ask before they start."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from apo_soup.stored_json import read_json

# Files that may name tokens which `tokenizer.json` has not.
BESIDE_TOKENIZER = ("added_tokens.json", "tokenizer_config.json", "special_tokens_map.json")
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


def stored_tokenizer(file_of: Callable[[str], Path | None], where: str) -> Tokenizer | None:
    """The tokenizer with the tokens that the files beside it name; None where it is not there, or cannot be read: what
    loads it for work tells what is wrong with it.

    Args:
        file_of: the place of a model's file by its name, None where it has none.

    Raises:
        UserError: a file beside it is no JSON.
    """
    tokens = file_of("tokenizer.json")
    if tokens is None:
        return None
    try:
        tokenizer = Tokenizer.from_file(str(tokens))
    except Exception:  # tokenizers raises plain ones
        return None
    known = tokenizer.get_vocab(with_added_tokens=True)
    for name in BESIDE_TOKENIZER:
        file = file_of(name)
        texts = _listed_tokens(name, read_json(file, where)) if file else []
        tokenizer.add_tokens([AddedToken(text, normalized=False) for text in texts if text not in known])
    return tokenizer


def file_in(folder: Path) -> Callable[[str], Path | None]:
    """What gives the place of a folder's file by its name."""
    return lambda name: folder / name if (folder / name).is_file() else None


def _listed_tokens(name: str, content: Mapping[str, Any]) -> list[str]:
    """The tokens that a file beside `tokenizer.json` names: transformers adds those that are not there yet."""
    if name == "added_tokens.json":
        return sorted(content, key=lambda text: str(content[text]))
    listed = content.get("added_tokens_decoder")
    named = [*(listed.values() if isinstance(listed, dict) else ()), *(content.get(key) for key in SPECIAL_TOKENS)]
    texts = [token.get("content") if isinstance(token, dict) else token for token in named]
    return [text for text in texts if isinstance(text, str)]
