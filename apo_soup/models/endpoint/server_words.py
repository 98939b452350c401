"""What a server says, without the secrets that it was sent: servers quote keys and requests in their refusals."""

import json
import re
from collections.abc import Iterable
from urllib.parse import quote

from apo_soup.config.endpoint import EndpointKeys
from apo_soup.config.endpoint_settings import address_secrets, table_secrets
from apo_soup.errors import HIDDEN

# Shorter texts are words of any sentence.
SHORTEST_SECRET = 4
# An answer is given up over a secret of this length without white space; shorter ones may be there by chance.
SHORTEST_IN_ANSWER = 12


class ServerWords:
    """Takes an endpoint's secrets out of what its server says: the key, and what of address and further fields may
    not be shown.
    """

    def __init__(self, keys: EndpointKeys, api_key: str):
        found = {api_key, *address_secrets(keys.base_url), *table_secrets(keys.extra_body or {})}
        self._in_words = _pattern(text for text in found if len(text) >= SHORTEST_SECRET)
        self._in_answers = _pattern(
            text for text in found if len(text) >= SHORTEST_IN_ANSWER and not re.search(r"\s", text)
        )

    def clean(self, words: str) -> str:
        """A server's words with every secret in them hidden."""
        return self._in_words.sub(HIDDEN, words)

    def are_in(self, answer: str) -> bool:
        """Whether an answer repeats a secret."""
        return bool(self._in_answers.search(answer))

    def cleaned_answer(self, answer: str) -> str:
        """An answer with the secrets hidden that `are_in` finds."""
        return self._in_answers.sub(HIDDEN, answer)


def _pattern(secrets: Iterable[str]) -> re.Pattern[str]:
    """What matches any of some texts, as they are, escaped as JSON or Python write them, or as in an address."""
    written = {form for s in secrets for form in (s, json.dumps(s)[1:-1], repr(s)[1:-1], quote(s), quote(s, safe=""))}
    return re.compile("|".join(re.escape(text) for text in sorted(written, key=len, reverse=True)) or r"(?!)")
