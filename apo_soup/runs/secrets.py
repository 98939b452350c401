"""Secrets stay out of manifests, logs and commands: keys such as `hub_token`, and words that look like a Hub token."""

import re
from typing import Any

SECRET_KEY = re.compile(r"^(?!(?:eos|bos|pad|unk)_)(?:\w*_)?(?:token|secret|password|api_key)$", re.IGNORECASE)
HIDDEN = "(hidden)"


def redacted(value: Any, name: str = "") -> Any:
    """`value` with every text whose key names a secret replaced by `HIDDEN`; other values and numbers stay."""
    if isinstance(value, dict):
        return {k: redacted(v, str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [redacted(v, name) for v in value]
    return HIDDEN if isinstance(value, str) and SECRET_KEY.search(name) else value


def without_secrets(words: list[str]) -> list[str]:
    """A command line's words without secret keys and their values; a mapping that holds a Hub token is hidden."""
    kept: list[str] = []
    skip_value = False
    for word in words:
        if skip_value:
            skip_value = False
            continue
        key = word.removeprefix("--").partition("=")[0] if word.startswith("--") else ""
        if key and SECRET_KEY.search(key.replace("-", "_").rpartition(".")[2]):
            skip_value = "=" not in word
        elif re.search(r"\bhf_\w+", word):
            kept.append(HIDDEN)
        else:
            kept.append(word)
    return kept
