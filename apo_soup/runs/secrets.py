"""Secrets stay out of manifests, logs and commands: keys that are declared secret or named like one, what an endpoint
is sent but for harmless settings, and words that look like a Hub token.
"""

import re
from typing import Any

from apo_soup.config.endpoint_settings import ADDRESS, is_harmless, public_address
from apo_soup.config.marked import marked_names
from apo_soup.config.yaml_lines import read_value
from apo_soup.errors import HIDDEN, KNOWN_KEY, without_keys

# Names in mappings whose keys are a library's, or a server's, and are declared nowhere.
SECRET_KEY = re.compile(
    r"^(?!(?:eos|bos|pad|unk|sep|cls|mask|image|audio|video)_)(?:\w*_)?"
    r"(?:token|secret|password|passwd|pwd|api_?key|access_?key|private_?key|authorization|bearer|credentials?)$",
    re.IGNORECASE,
)
# A secret given by its name inside a text, as in `export WANDB_API_KEY=...`; the name of a variable is none. Behind a
# name that may be another thing's, such as KEY, it is what is long, with letters and digits or very long.
_OF_SERVICES = (
    r"(?:HF|HUB|HUGGING_?FACE|OPENAI|ANTHROPIC|MISTRAL|GROQ|XAI|WANDB|COMET|MLFLOW|SWANLAB|NEPTUNE|GITHUB|GH|GITLAB"
    r"|SLACK|DISCORD|TELEGRAM|AWS|AZURE|GOOGLE|AUTH|API|ACCESS|BEARER|REFRESH|SESSION|BOT)_(?:TOKEN|KEY)"
)
ASSIGNED = re.compile(
    rf"\b(?:(?:[A-Z0-9_]*_)?(?:{_OF_SERVICES}|(?:API|ACCESS|PRIVATE|SECRET)_?KEY|SECRET|PASSWORD)"
    r"|(?i:api[_-]?key|password|passwd|access_token))=['\"]?[^\s'\"${<]"
    r"|\b(?!(?:EOS|BOS|PAD|UNK|SEP|CLS|MASK|IMAGE|AUDIO|VIDEO)_)(?:[A-Z0-9_]*_)?(?:TOKEN|KEY)"
    r"=['\"]?(?:(?=[\w.+/=~-]*[0-9])(?=[\w.+/=~-]*[A-Za-z])[\w.+/=~-]{12,}|[\w.+/=~-]{24,})"
)
# What is given behind such a name: up to a closing quote that a space or `;` follows, else to the end of the line, and
# to that of the text where a quote or a key in a block of lines may go on there.
_GIVEN = re.compile(
    r"(['\"])(?:\\.|(?!\1).)*\1(?=[\s;]|\Z)|(?=[^\r\n]*(?:['\"]|-----BEGIN)).*|(?:\\\r?\n|[^\r\n])*", re.DOTALL
)
HUB_TOKEN = re.compile(r"\bhf_\w+")
# Mappings that go to the servers of data sets, in which any name may be a key.
HIDDEN_TABLES = ("storage_options", "headers")


def redacted(value: Any, name: str = "") -> Any:
    """`value` without secrets: values of keys that are declared secret, texts whose key names one, or that hold a key
    of a known sort, what follows a secret's name inside a text, mappings that go to an endpoint but for what is
    harmless in them, and the user, password and query of addresses. Other values and numbers stay.

    Of a mapping that goes to an endpoint the rest is an entry `(hidden)` with its count, since names can be secrets.
    """
    is_secret = _is_declared_secret(name)
    if is_secret and isinstance(value, dict):
        shown = {k: v for k, v in value.items() if is_harmless(str(k), v)}
        return shown | ({HIDDEN: len(value) - len(shown)} if len(shown) < len(value) else {})
    if name in HIDDEN_TABLES and isinstance(value, dict):
        return {HIDDEN: len(value)}
    is_address = isinstance(value, str) and bool(ADDRESS.fullmatch(value))
    if is_secret and value is not None and not is_address:
        return HIDDEN
    if isinstance(value, dict):
        return {k: redacted(v, name if _names_secret(name) else str(k)) for k, v in value.items()}
    if isinstance(value, list):
        return [redacted(v, name) for v in value]
    if isinstance(value, str):
        text = public_address(value) if is_address else value
        secret = _names_secret(name) or KNOWN_KEY.search(text)
        return HIDDEN if secret else without_keys(_without_assigned(text))
    return value


def _without_assigned(text: str) -> str:
    r"""A text without the secrets that stand behind their names in it. The rest stays: a change of it is seen where
    texts are compared.

    >>> _without_assigned("export WANDB_API_KEY=abc; make\nmake sft")
    'export WANDB_API_KEY=(hidden)\nmake sft'
    """
    shown, done = "", 0
    for found in ASSIGNED.finditer(text):
        begins = text.index("=", found.start()) + 1
        if begins > done:
            given = _GIVEN.match(text, begins)
            shown += text[done:begins] + HIDDEN
            done = given.end() if given else len(text)
    return shown + text[done:]


def _is_declared_secret(name: str) -> bool:
    return name.replace("-", "_") in marked_names("secret")


def _names_secret(name: str) -> bool:
    return bool(SECRET_KEY.search(name.replace("-", "_")))


def without_secrets(words: list[str]) -> list[str]:
    """A command line's words without secret keys and their values; what else holds a secret is hidden in its place."""
    return [word for group in word_groups(words) for word in _shown(group)]


def groups_without_secrets(words: list[str]) -> list[str]:
    """The `--key value` words that hold no secret, whole; the others are left out, key and value."""
    return [word for group in word_groups(words) if _shown(group) == group for word in group]


def word_groups(words: list[str]) -> list[list[str]]:
    """A command line's words by what belongs together: `--key value`, `--key=value`, or one word."""
    groups: list[list[str]] = []
    for word in words:
        before = groups[-1] if groups else [""]
        takes_value = len(before) == 1 and before[0].startswith("--") and "=" not in before[0]
        if takes_value and not word.startswith("--"):
            before.append(word)
        else:
            groups.append([word])
    return groups


def _shown(group: list[str]) -> list[str]:
    """The words of a group that may be shown."""
    first, *values = group
    if not first.startswith("--"):
        return [HIDDEN if HUB_TOKEN.search(first) else redacted(first)]
    name, given, text = first.removeprefix("--").partition("=")
    text = values[0] if values else text
    *around, last = name.split(".")
    if any(_names_secret(part) for part in (*around, last)):
        return []
    shown = _shown_value(around, last, text)
    if shown == text:
        return group
    return [f"--{name}={shown}"] if given else [f"--{name}", shown]


def _shown_value(around: list[str], last: str, text: str) -> str:
    """The value of a key of the command line as it may be shown; `around` are the mappings that the key stands in."""
    value = read_value(text)
    if any(map(_is_declared_secret, around)):  # a mapping that goes to an endpoint
        return text if _is_declared_secret(around[-1]) and is_harmless(last, value) else HIDDEN
    if HUB_TOKEN.search(text) or (isinstance(value, str) and text.lstrip().startswith(("{", "["))):
        return HIDDEN  # the latter is a mapping that cannot be read
    if isinstance(value, str):
        return str(redacted(text, last))
    return text if redacted(value, last) == value else HIDDEN
