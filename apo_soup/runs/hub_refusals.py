"""What the Hub says where a model is sent to it and refused, in one sentence with what to do about it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from apo_soup.errors import UserError, disk_refusal, first_line

_LOG_IN = "log in with `hf auth login`, or give HF_TOKEN"
# By the answer's number: what was expected, and what to do.
_BY_STATUS = {
    401: ("a token that the Hub knows", f"{_LOG_IN} a token that is not expired or revoked"),
    403: ("a token that may write there", "give one with the right to write, or name a repository of your own"),
    404: ("an owner and a repository that the Hub has", f"correct the name, or {_LOG_IN} one that may see it"),
    409: ("a repository that nothing else changes meanwhile", "look at it on the Hub, and run the same command again"),
    412: ("a repository that nothing else changes meanwhile", "look at it on the Hub, and run the same command again"),
    413: ("files that the Hub takes", "see its limits of size"),
    429: ("fewer requests than the Hub's limit", "wait{wait}, and run the same command again"),
}
_OF_SERVER = ("an answer of the Hub", "that is its own fault: run the same command again later")
_OTHER = ("a repository that may be written to", "correct the name, or log in with `hf auth login`")


@contextmanager
def told_by_hub(where: str, repository: str) -> Iterator[None]:
    """Inside, what the Hub refuses is a UserError, that it does not answer too.

    Args:
        where: who asked for it: a key's place, or an option.

    Raises:
        UserError: the Hub refused, or was not reached.
    """
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        yield
    except HFValidationError as error:
        raise UserError(
            f"{where}: expected OWNER/NAME of letters, digits, -, _ and ., got {repository}; correct the name"
        ) from error
    except (HTTPError, OSError) as error:
        if disk_refusal(error) is not None:
            raise
        raise UserError(f"{where}: {_told(error, repository)}") from error


def _told(error: Any, repository: str) -> str:
    response = getattr(error, "response", None)
    if response is None:
        from huggingface_hub import constants

        way = "unset HF_HUB_OFFLINE" if constants.HF_HUB_OFFLINE else "look at the network, the proxy and HF_ENDPOINT"
        told = f"expected the Hub at {constants.ENDPOINT} to take {repository}, got no answer ({first_line(error)})"
        return f"{told}; {way}, and run the same command again"
    status = int(response.status_code)
    expected, way = _BY_STATUS.get(status, _OF_SERVER if status >= 500 else _OTHER)
    seconds = response.headers.get("Retry-After", "")
    words = " ".join((getattr(error, "server_message", None) or "").split())
    got = f"{status}{f' ({words})' if words else ''}"
    return f"{repository}: expected {expected}, got {got}; {way.format(wait=f' {seconds} s' if seconds else '')}"
