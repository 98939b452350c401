"""Where the page is served: ports that are taken, other addresses, and when a token is asked for."""

import socket

import pytest

from apo_soup.errors import UserError
from apo_soup.ui.address import bound_socket, served_address


def test_a_port_that_is_taken_is_a_sentence():
    with bound_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with pytest.raises(
            UserError, match=f"--port: expected a free port, got {port}, which another program has taken"
        ):
            bound_socket("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "told"), [("no.such.host.invalid", "which is none"), ("192.0.2.1", "an address of this")]
)
def test_a_host_that_is_not_ours_is_a_sentence(host, told):
    with pytest.raises(UserError, match=f"--host: expected .*{told}"):
        bound_socket(host, 0)


def test_on_this_machine_no_token_is_asked_for_unless_others_may_come():
    with bound_socket("127.0.0.1", 0) as bound:
        plain = served_address(bound, "127.0.0.1", [], False)
        assert plain.token == ""
        assert plain.url == f"http://127.0.0.1:{bound.getsockname()[1]}/"
        assert not plain.answers_to("10.0.0.1")
        asked = served_address(bound, "127.0.0.1", [], True)
        proxied = served_address(bound, "127.0.0.1", ["Hub.Example"], False, "/user/me/")
    assert len(asked.token) == 43
    assert asked.url.endswith(f"/#token={asked.token}")
    assert proxied.token
    assert proxied.answers_to("hub.example")
    assert "/user/me/#token=" in proxied.url


def test_bound_to_all_addresses_a_token_is_asked_for():
    with bound_socket("0.0.0.0", 0) as bound:
        address = served_address(bound, "0.0.0.0", [], False)
    assert len(address.token) == 43
    assert address.url == f"http://{socket.gethostname()}:{address.port}/#token={address.token}"
    assert address.answers_to("10.0.0.1")
    assert address.answers_to(socket.gethostname())
    assert not address.answers_to("evil.example")


def test_an_address_of_version_6_stands_in_brackets():
    try:
        bound = bound_socket("[::1]", 0)
    except UserError:
        pytest.skip("this machine has no IPv6")
    with bound:
        address, port = served_address(bound, "::1", [], False), bound.getsockname()[1]
    assert address.url == f"http://[::1]:{port}/"
    assert address.token == ""
    assert address.answers_to("[::1]")
