"""Who is answered: names, tokens and origins."""

import pytest
from ui_helpers import LOOPBACK, client_of, events_of, site_of

from apo_soup.ui.address import Address
from apo_soup.ui.guard import cookie_name, is_token

TOKEN = "t" * 43
WRONG: tuple[dict[str, str], ...] = (
    {}, {"authorization": "Bearer wrong"}, {"authorization": f"Bearer {TOKEN}x"}, {"authorization": TOKEN},
    {"cookie": "apo_soup_ui_7860="}, {"cookie": f"apo_soup_ui_7860={TOKEN[:-1]}"}, {"cookie": "=;=\x01"},
)  # fmt: skip


@pytest.fixture
def locked(recipe):
    return client_of(site_of(recipe, token=TOKEN))


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "", "10.0.0.5", "[::2]"]
)
def test_a_page_of_another_name_is_not_served(client, host):
    """As a page of another site asks for it whose name was made to lead here."""
    answer = client.get("/rows/sft/0", headers={"host": host})
    assert answer.status_code == 400
    assert "It is 2." not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "localhost", "LOCALHOST:9000", "[::1]:7860"])
def test_this_machines_names_are_served(client, host):
    assert client.get("/chat", headers={"host": host}).status_code == 200


def test_an_address_of_numbers_is_served_where_it_is_bound_to_all(recipe):
    client = client_of(site_of(recipe, token=TOKEN, literals=True, names=LOOPBACK | {"box"}))
    client.headers["authorization"] = f"Bearer {TOKEN}"
    for host, status in (("10.1.2.3:7860", 200), ("[fe80::1]:7860", 200), ("box", 200), ("evil.example", 400)):
        assert client.get("/chat", headers={"host": host}).status_code == status


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"}, {"origin": "null"}, {"origin": "http://127.0.0.1:9999"},
        {"origin": "http://localhost:7860"}, {"sec-fetch-site": "cross-site"}, {"sec-fetch-site": "same-site"},
        {"origin": "http://[broken"},
    ],
)  # fmt: skip
def test_a_request_of_another_site_is_not_answered(client, headers):
    asked = {"model": "one", "think": False, "turns": [{"role": "user", "content": "1?"}], "max_new_tokens": 1}
    assert client.post("/talk", json=asked, headers=headers).status_code == 403
    own = client.post("/talk", json=asked, headers={"origin": "http://127.0.0.1:7860", "sec-fetch-site": "same-origin"})
    assert events_of(own.text)[-1]["kind"] == "done"


def test_a_page_of_another_site_can_load_nothing_and_may_link_here(client):
    other = {"sec-fetch-site": "cross-site", "sec-fetch-dest": "image"}
    for path in ("/states?again=1", "/rows/sft/0", "/static/ui.css"):
        assert client.get(path, headers=other | {"sec-fetch-mode": "no-cors"}).status_code == 403
        assert client.get(path, headers=other | {"sec-fetch-mode": "cors"}).status_code == 403
        own = {"sec-fetch-site": "same-origin", "sec-fetch-mode": "cors"}
        assert client.get(path, headers=own).status_code == 200
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert client.get("/", headers=link).status_code == 200
    assert client.get("/rows/sft/0", headers=link).status_code == 200


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/rows/sft/0?from=1", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}),
        ("/states?again=1", {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"}),
        ("/rows/sft/0", {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"}),
        ("/rows/sft/0", {"origin": "http://evil.example"}),
    ],
)
def test_no_other_site_has_rows_read_or_states_asked(client, path, headers):
    """Not by a link, a frame, or a script of a browser that says nothing but where it is from."""
    assert client.get(path, headers={"sec-fetch-dest": "document"} | headers).status_code == 403
    assert client.get(path, headers={"sec-fetch-site": "none", "sec-fetch-mode": "navigate"}).status_code == 200


def test_a_proxys_name_that_was_allowed_may_ask(recipe):
    client = client_of(site_of(recipe, token=TOKEN, names=LOOPBACK | {"hub.example"}))
    headers = {"origin": "https://hub.example", "authorization": f"Bearer {TOKEN}"}
    asked = {"model": "one", "think": False, "turns": [{"role": "user", "content": "1?"}], "max_new_tokens": 1}
    assert client.post("/talk", json=asked, headers=headers).status_code == 200
    assert client.get("/chat", headers={"host": "hub.example", **headers}).status_code == 200


def test_without_the_token_nothing_is_shown(locked):
    for path in ("/", "/rows/sft/0", "/states", "/report", "/curves", "/chat", "/static/chat.js", "/nothing"):
        for headers in WRONG:
            answer = locked.get(path, headers=headers)
            assert answer.status_code == 401
            assert "It is 2." not in answer.text
            assert "mine" not in answer.text, "nor the recipe's name"
    assert locked.get(f"/?token={TOKEN}").status_code == 401, "an address is kept in many places"
    assert locked.post("/talk", json={}).status_code == 401
    assert locked.get("/static/enter.js").status_code == 200
    assert 'src="../../static/enter.js"' in locked.get("/rows/sft/0").text


@pytest.mark.parametrize("given", ["", "t", TOKEN[:-1], TOKEN + "t", TOKEN * 100, "é", "\ud800", None, 5, ["t"]])
def test_a_wrong_token_of_any_length_opens_nothing(locked, given):
    import json

    body = json.dumps({"token": given})
    answer = locked.post("/enter", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert locked.get("/chat").status_code == 401


def test_the_right_token_becomes_a_cookie_that_no_script_reads(locked):
    answer = locked.post("/enter", json={"token": TOKEN})
    assert answer.status_code == 204
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith(f"apo_soup_ui_7860={TOKEN};")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert locked.get("/chat").status_code == 200
    assert TOKEN not in locked.get("/chat").text


def test_where_no_token_is_asked_for_none_is_taken(client):
    assert client.post("/enter", json={"token": ""}).status_code == 403
    assert client.post("/enter", content=b"[" * 100_000).status_code == 403


def test_tokens_are_compared_whole():
    address = Address("127.0.0.1", 1, "abc", LOOPBACK, False)
    assert [is_token(text, address) for text in ("abc", "ab", "abcd", "", "abd")] == [True, False, False, False, False]
    assert cookie_name(address) == "apo_soup_ui_1"
