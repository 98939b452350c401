"""Where the page is served: the socket, by what names a browser may ask for it, and whether it asks for a token."""

import contextlib
import errno
import ipaddress
import os
import secrets
import socket
from collections.abc import Collection
from dataclasses import dataclass

from apo_soup.errors import UserError

_LOOPBACK_NAMES = ("localhost",)


@dataclass(frozen=True)
class Address:
    """Where a page is served.

    Attributes:
        host: the address it is bound to, without brackets.
        port: its port.
        token: what a browser must show; empty where none is asked for.
        names: the names, in lower case, by which it may be asked for.
        literals: whether any address of numbers will do as a name; no other site can get hold of one.
        prefix: the path below which a proxy shows it, such as `/user/me/ui`; empty without one.
    """

    host: str
    port: int
    token: str
    names: frozenset[str]
    literals: bool
    prefix: str = ""

    @property
    def url(self) -> str:
        """What a person opens; this machine's name where it is bound to all addresses. The token stands behind #, which
        no browser sends to anybody.
        """
        literal = as_literal(self.host)
        name = socket.gethostname() if literal and literal.is_unspecified else self.host
        host = f"[{name}]" if ":" in name else name
        return f"http://{host}:{self.port}{self.prefix}/{f'#token={self.token}' if self.token else ''}"

    def answers_to(self, name: str) -> bool:
        """Whether it may be asked for by this name, of a Host header without its port.

        A page of another site whose name is made to lead here (DNS rebinding) asks by that site's name.
        """
        bare = name.lower().removeprefix("[").removesuffix("]")
        return bare in self.names or (self.literals and as_literal(bare) is not None)


def as_literal(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address of numbers, or None.

    >>> as_literal("::1"), as_literal("localhost")
    (IPv6Address('::1'), None)
    """
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def is_loopback(host: str) -> bool:
    """Whether nobody outside of this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    literal = as_literal(host)
    return host in _LOOPBACK_NAMES if literal is None else literal.is_loopback


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens at a host and port; port 0 is any that is free.

    Raises:
        UserError: the port is taken or not this account's, or the host is none of this machine.
    """
    bare = host.removeprefix("[").removesuffix("]")
    try:
        family, _, _, _, place = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise UserError(
            f"--host: expected an address of this machine, got {host}, which is none ({error}); leave it out for "
            "127.0.0.1"
        ) from error
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # elsewhere it would let two programs share a port
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(place)
        bound.listen(64)
    except OSError as error:
        bound.close()
        raise _refused(host, port, error) from error
    return bound


def _refused(host: str, port: int, error: OSError) -> UserError:
    if error.errno == errno.EADDRINUSE:
        return UserError(
            f"--port: expected a free port, got {port}, which another program has taken; end it, or name another port "
            "(0: any that is free)"
        )
    if error.errno == errno.EACCES:
        return UserError(f"--port: expected one that this account may take, got {port}; name one from 1024 on")
    return UserError(
        f"--host: expected an address of this machine, got {host} ({error.strerror}); leave it out for 127.0.0.1"
    )


def served_address(
    bound: socket.socket, host: str, allowed: Collection[str], with_token: bool, prefix: str = ""
) -> Address:
    """The address of a bound socket. Where others than this machine may reach it, a token is asked for.

    Args:
        host: as it was asked for.
        allowed: names by which a proxy or another machine asks for it too.
        with_token: whether a token is asked for in any case.
    """
    number, port = bound.getsockname()[:2]
    names = {host.lower(), number, *_LOOPBACK_NAMES, "127.0.0.1", "::1", *(name.lower() for name in allowed)}
    outside = not is_loopback(number)
    if outside:
        with contextlib.suppress(OSError):
            names |= {socket.gethostname().lower(), socket.getfqdn().lower()}
    token = secrets.token_urlsafe(32) if outside or allowed or with_token else ""
    return Address(number, port, token, frozenset(names), outside, prefix.rstrip("/"))
