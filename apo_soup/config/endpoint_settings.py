"""What of an endpoint's settings may be shown: those on a list of harmless ones, and an address without its secrets.

Where a key hides has no end of names (`Authorization`, `x-api-key`, `passwd`), so nothing is shown because its name
looks harmless: only because it is on this list, and its value a number or one of a few words.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

# What may be shown of a mapping that goes to a server as it is, where it is a number, true, false or null.
HARMLESS_SETTINGS = frozenset(
    (
        "best_of", "do_sample", "early_stopping", "frequency_penalty", "ignore_eos", "length_penalty", "logprobs",
        "max_completion_tokens", "max_new_tokens", "max_tokens", "min_p", "min_tokens", "n", "num_beams",
        "presence_penalty", "repetition_penalty", "seed", "skip_special_tokens", "store", "stream", "temperature",
        "top_k", "top_logprobs", "top_p", "truncate_prompt_tokens", "typical_p",
    )
)  # fmt: skip
# Settings whose value is one of a few words.
HARMLESS_WORDS = {
    "reasoning_effort": ("none", "minimal", "low", "medium", "high", "xhigh", "max"),
    "verbosity": ("low", "medium", "high"),
}
KEY_LIKE_NAME = re.compile(r"(?=.*\d)\S{12,}")
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*")


def is_harmless(name: str, value: Any) -> bool:
    """Whether a setting may be shown with its value."""
    if name in HARMLESS_WORDS:
        return value in HARMLESS_WORDS[name]
    return name in HARMLESS_SETTINGS and (value is None or isinstance(value, (bool, int, float)))


def public_address(address: str) -> str:
    """An address without user, password, query and fragment; "(an address)" for what cannot be told apart."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return "(an address)"
    if not (parts.query or parts.fragment or "@" in parts.netloc):
        return address
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def address_secrets(address: str) -> list[str]:
    """The parts of an address that `public_address` leaves out, decoded and as they stand."""
    parts = urlsplit(address)
    user = parts.netloc.rpartition("@")[0]
    values = [user, *user.split(":"), parts.fragment, parts.query]
    values += [value for _, value in parse_qsl(parts.query)] + [p.partition("=")[2] for p in parts.query.split("&")]
    return [text for value in values for text in {value, unquote(value)} if text]


def table_secrets(table: Mapping[str, Any]) -> Iterator[str]:
    """Every text and number of a mapping that goes to a server and is not on the lists, at any depth, and the names
    that look like keys: long, with digits.
    """
    for name, value in table.items():
        if not is_harmless(str(name), value):
            yield from _texts({name: value})


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
        yield from value.split()  # `Bearer KEY` is sent back as the key alone
        if ADDRESS.fullmatch(value):
            yield from address_secrets(value)
    elif isinstance(value, Mapping):
        for name, inside in value.items():
            yield from [str(name)] if KEY_LIKE_NAME.fullmatch(str(name)) else []
            yield from _texts(inside)
    elif isinstance(value, list):
        for inside in value:
            yield from _texts(inside)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield str(value)
