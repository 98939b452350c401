"""An OpenAI-compatible endpoint as a stage file names one: address, key, pace and further fields."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlsplit

from apo_soup.config.endpoint_settings import public_address
from apo_soup.config.keys import AboveZero, NotNegative, Positive, Table, Text, key
from apo_soup.config.stage_file import Fault, Keys, Remark

# A key itself, where the name of a variable is expected: `sk_...`, or long with letters of both sizes and digits.
KEY_LIKE = re.compile(r"(sk|pk|hf|gsk|xai|key|api)_(?=\w*\d)\w{8,}$|(?=\w*[a-z])(?=\w*\d)\w{20,}$")
# Fields without which there is no request, whatever a file says.
ALWAYS_SENT = ("messages", "model", "prompt")
# What every request has, and a further field says anew.
REQUEST_FIELDS = (*ALWAYS_SENT, "n", "stream")
# Fields of a request that a key stands for, where there is such a key.
FIELDS_OF_KEYS = {"max_tokens": "max_new_tokens", "seed": "seed", "temperature": "temperature"}


class EndpointKeys(Keys):
    """Where a model is served, and how it is asked."""

    model: Text = key(meaning="the name that the endpoint knows the model by", input=True)
    base_url: Text = key(meaning="address of the endpoint, such as http://localhost:8000/v1", input=True, secret=True)
    api_key_env: Text = key("OPENAI_API_KEY", "environment variable that holds the key", cosmetic=True, secret=True)
    concurrency: Positive = key(32, "requests under way at a time", cosmetic=True)
    requests_per_minute: AboveZero | None = key(None, "most requests a minute", cosmetic=True)
    timeout: AboveZero = key(600.0, "seconds that a request may take", cosmetic=True)
    retries: NotNegative = key(6, "tries again after a failure that may pass", cosmetic=True)
    extra_body: Table | None = key(None, "further fields of every request; null leaves a field out", secret=True)

    def faults(self) -> Iterator[Fault]:
        wrong = address_fault(self.base_url)
        if wrong:
            yield Fault("base_url", wrong)
        if "chat_template_kwargs" in (self.extra_body or {}):
            told = "expected no chat_template_kwargs, which is a key of the file's own, got some; write that key"
            yield Fault("extra_body", told)
        if not self.api_key_env.isidentifier() or KEY_LIKE.match(self.api_key_env):
            told = "expected the name of an environment variable, got what cannot be one; put the key into a variable"
            yield Fault("api_key_env", f"{told}, and write the variable's name here")

    def remarks(self) -> Iterator[Remark]:
        for field, value in (self.extra_body or {}).items():
            name = FIELDS_OF_KEYS.get(field)
            if value is None and field in ALWAYS_SENT:
                yield Remark("extra_body", f"its {field} is null, and every request has that field all the same")
            elif value is None:
                yield Remark("extra_body", f"its {field} is null, so no request has that field")
            elif name in type(self).model_fields:
                yield Remark("extra_body", f"its {field} takes the place of the key {name}")
            elif field in REQUEST_FIELDS:
                yield Remark("extra_body", f"its {field} takes the place of the one that every request has")


@dataclass(frozen=True)
class EndpointAddress:
    """An endpoint's address, and the fields of its query, which are sent with every request and shown nowhere."""

    url: str
    query: dict[str, str]


def endpoint_address(keys: EndpointKeys) -> EndpointAddress:
    """The address of an endpoint in its parts; `url` is what may be shown of it."""
    return EndpointAddress(public_address(keys.base_url), dict(parse_qsl(urlsplit(keys.base_url).query)))


def address_fault(address: str) -> str | None:
    """What is wrong with an endpoint's address, or None; it is not repeated where it may hold a password."""
    try:
        parts = urlsplit(address)
    except ValueError as error:
        return f"expected an address such as http://localhost:8000/v1, got {_shown(address)} ({error}); correct it"
    if "@" in parts.netloc:
        return "expected an address without name and password, got one with; put the key into api_key_env's variable"
    if parts.scheme not in ("http", "https"):
        return (
            f"expected an address such as http://localhost:8000/v1, got {_shown(address)}; begin it with http:// or "
            "https://"
        )
    return None


def _shown(address: str) -> str:
    """A faulty address as a sentence may have it: nothing of one that may hold a secret, or that may be one."""
    plain = ":" in address and not re.search(r"[@?#]", address)
    return repr(address) if plain else "a value that is not shown"
