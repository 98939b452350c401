"""Who is answered: the name that is asked for, the token, where a request comes from; and what a browser may do with
the answer.
"""

import hmac
from collections.abc import MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from apo_soup.pages.render import rendered
from apo_soup.ui.address import Address

# Scripts, styles and requests are the page's own; nothing is loaded from outside, nobody frames it.
PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# The report stands alone, with its style in it and no script: none may run in it.
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'none'; sandbox"
_HEADERS = {
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
# What a browser that has no token yet must get to show one.
_OPEN_TO_ALL = ("/enter", "/static/ui.css", "/static/enter.js")


def cookie_name(address: Address) -> str:
    """The cookie that holds the token; browsers share cookies among all ports of a host."""
    return f"apo_soup_ui_{address.port}"


def is_token(given: str, address: Address) -> bool:
    """Whether a text is the token; compared in the same time wherever it differs."""
    return hmac.compare_digest(_digest(given), _digest(address.token))


def _digest(text: str) -> bytes:
    """Of one length, so that the time tells nothing of the token's."""
    return hmac.digest(b"token", text.encode("utf-8", "surrogatepass"), "sha256")


class Guard:
    """Passes on what may be answered, and adds to each answer what a browser must keep to."""

    def __init__(self, app: ASGIApp, address: Address):
        self.app, self.address = app, address

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        prefix = self.address.prefix
        if prefix and (scope["path"] == prefix or scope["path"].startswith(f"{prefix}/")):
            scope = {**scope, "root_path": prefix}  # of a proxy that leaves it in the path
        refusal = self._refusal(scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in (*_HEADERS.items(), ("Content-Security-Policy", PAGE_POLICY)):
                    headers.setdefault(name, value)
            await send(message)

        await (refusal or self.app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that is not passed on; None for one that is."""
        headers = Headers(scope=scope)
        if not self.address.answers_to(host_without_port(headers.get("host", ""))):
            return PlainTextResponse(
                "This page is not served under that name. Ask for it by its address, or start it with --allow-host.",
                400,
            )
        if not (self._is_own(headers) or _is_link(scope, headers)):
            told = "Requests of other sites are not answered; a link may lead to a page, with nothing behind a `?`."
            return PlainTextResponse(told, 403)
        path = path_below(scope)
        if self.address.prefix and scope["path"] == self.address.prefix:
            return RedirectResponse(f"{self.address.prefix}/", 307)
        if self.address.token and path not in _OPEN_TO_ALL and not self._shows_token(headers):
            depth = max(0, path.count("/") - 1)
            page = rendered("ui/enter.html.jinja", up="../" * depth or "./", current="", recipe="")
            return Response(page, 401, media_type="text/html")
        return None

    def _is_own(self, headers: Headers) -> bool:
        """Whether a request comes from a page of ours, or from a program."""
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        origin = headers.get("origin")
        if origin is None:
            return True
        try:
            asked, host = urlsplit(origin), urlsplit(f"//{headers.get('host', '')}")
            same = asked.netloc.lower() == host.netloc.lower()
            # A proxy may ask by another name than the browser does; it is then one that was allowed.
            return same or (asked.hostname or "") in self.address.names - {"localhost", "127.0.0.1", "::1"}
        except ValueError:
            return False

    def _shows_token(self, headers: Headers) -> bool:
        kind, _, shown = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and is_token(shown.strip(), self.address):
            return True
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return False
        cookie = cookies.get(cookie_name(self.address))
        return cookie is not None and is_token(cookie.value, self.address)


def _is_link(scope: Scope, headers: Headers) -> bool:
    """Whether a browser is led to a page of ours by a link on another site's, and asks for no more than the page."""
    led = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    return scope["method"] in ("GET", "HEAD") and led and not scope["query_string"]


def host_without_port(host: str) -> str:
    """The name in a Host header.

    >>> host_without_port("localhost:7860"), host_without_port("[::1]:7860"), host_without_port("[::1]")
    ('localhost', '[::1]', '[::1]')
    """
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdecimal() else host


def path_below(scope: MutableMapping[str, Any]) -> str:
    """The path of a request below the prefix of a proxy."""
    path, prefix = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(prefix) or "/" if prefix and path.startswith(prefix) else path
