"""The routes: what each page shows, that rows write none of it, and that nothing but a chat does anything."""

import hashlib
import json
import os
import re
import time

import pytest
from helpers import chat
from report_helpers import demo_like_run
from ui_helpers import EVIL, client_of, events_of, site_of

from apo_soup.ui.app import Site

READ = ("/", "/states", "/rows/sft/0", "/refused/sft/rejected", "/chat", "/curves", "/static/ui.css")


def test_the_first_page_shows_what_is_there_and_who_is_at_work(client, recipe, tmp_path):
    page = client.get("/").text
    assert re.search(r"<td>sft<small>sft.yaml</small></td>\s*<td>not yet</td>\s*<td>nobody</td>", page)
    folder = tmp_path / "runs/mine/sft"
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps({"stage": "sft", "seconds": 63.0}))
    holder = {"host": os.uname().nodename, "process": os.getpid(), "since": "2026-11-30 05:00:00+00:00", "command": "x"}
    (folder.parent / ".sft.lock").touch()
    (folder.parent / ".sft.holder").write_text(json.dumps(holder))
    evals = tmp_path / "runs/mine/evals"
    evals.mkdir()
    (evals / ".one.lock").touch()
    (evals / ".one.holder").write_text(json.dumps(holder | {"command": "evaluation"}))
    (recipe / "apo.yaml").write_text("beta: much\n")
    page = client.get("/").text
    assert ", took 1:03" in page
    assert f"process {os.getpid()} on" in page
    assert "(evaluation)" in page
    assert "beta: expected a number" in page, "a file that is wrong stands there with its fault"


def test_states_are_asked_of_the_programs_once_and_told_by_steps(client):
    known = client.get("/states").json()
    deadline = time.monotonic() + 60
    while not known["done"] and time.monotonic() < deadline:
        time.sleep(0.1)
        known = client.get("/states").json()
    assert [state["step"] for state in known["states"]] == ["sft", "eval"]
    assert [state["stale"] for state in known["states"]] == [True, True]
    assert known["states"][0]["lines"][0].startswith("sft: stale, because ")


def test_rows_are_shown_with_their_trained_text_and_write_no_page(client):
    answer = client.get("/rows", headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["location"]) == (302, "rows/sft/0")
    page = client.get("/rows/sft/0").text
    assert "<mark>It is 2.</mark><mark><i>&lt;|im_end|&gt;</i></mark>" in page
    assert "&lt;/pre&gt;&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<mark>No &lt;b&gt;script&lt;/b&gt; here.</mark>" in page
    assert EVIL not in page
    assert page.count("<script") == 0
    assert "row 2 <span>of rows.jsonl, mode no_think</span>" in page


def test_what_is_asked_for_and_not_there_is_a_page_that_says_so(client, tmp_path):
    (tmp_path / "secret").write_text("secret")
    wrong = (
        "/rows/apo/0", "/rows/sft/1", "/rows/sft/x", "/rows/sft/0?from=-1", "/rows/sft/0?from=1e3", "/rows/sft/٣",
        f"/rows/sft/{'9' * 5000}", "/rows/..%2f..%2fsecret/0", "/rows/sft/..%2f..%2fsecret", "/refused/sft/secret",
        "/refused/..%2fsft/rejected", "/static/..%2fui.css", "/static/%2e%2e/chat.html.jinja",
        "/static/chat.html.jinja", "/rows/%00/0", "/nothing", "/rows/sft/0?from=99999999999999", "/rows/",
    )  # fmt: skip
    for path in wrong:
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert "secret</" not in answer.text
        assert "There is nothing at this address." in answer.text
    assert client.get("/rows/sft/0?from=999").status_code == 200
    assert "No row from number 1000 on." in client.get("/rows/sft/0?from=999").text


def test_pages_are_read_only_and_change_no_file(client, recipe, tmp_path):
    def files():
        found = (file for file in tmp_path.rglob("*") if file.is_file())
        return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in found}

    before = files()
    for path in READ:
        assert client.get(path).status_code == 200, path
        assert client.head(path).status_code == 200, path
        for method in ("post", "put", "delete", "patch"):
            assert getattr(client, method)(path).status_code == 405, (method, path)
    asked = {"model": "one", "think": False, "turns": [{"role": "user", "content": "1?"}], "max_new_tokens": 2}
    assert client.post("/talk", json=asked).status_code == 200
    assert client.get("/talk").status_code == 405
    assert files() == before


def test_an_answer_arrives_as_events_with_its_tokens_and_seconds(client):
    asked = {"model": "two", "think": False, "turns": [{"role": "user", "content": "1 + 1?"}], "max_new_tokens": 7}
    events = events_of(client.post("/talk", json=asked | {"temperature": 0}).text)
    assert [event["kind"] for event in events][:2] == ["load", "piece"]
    assert events[-1] | {"seconds": 0} == {"kind": "done", "tokens": 7, "seconds": 0, "full": True}
    again = events_of(client.post("/talk", json=asked | {"temperature": 0}).text)
    assert "load" not in [event["kind"] for event in again], "it stays loaded"
    assert [event for event in again if event["kind"] == "piece"] == [e for e in events if e["kind"] == "piece"]


@pytest.mark.parametrize(
    ("changed", "status", "told"),
    [
        ({"model": "three"}, 200, "model: expected one of one, two, got three"),
        ({"max_new_tokens": 0}, 400, "max_new_tokens: expected"),
        ({"temperature": "hot"}, 400, "temperature: expected a valid number"),
        ({"turns": []}, 400, "turns: expected"),
        ({"turns": [{"role": "system", "content": "x"}]}, 400, "turns.0.role: expected"),
        ({"file": "/etc/passwd"}, 400, "file: expected"),
        ({"turns": [{"role": "user", "content": "word " * 2000}]}, 200, "the model's context, got"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_one_sentence(client, changed, status, told):
    asked = {"model": "one", "think": False, "turns": [{"role": "user", "content": "1?"}], "max_new_tokens": 2}
    answer = client.post("/talk", json=asked | changed)
    assert answer.status_code == status
    (said,) = [answer.json()["told"]] if status == 400 else [e["told"] for e in events_of(answer.text) if "told" in e]
    assert told in said
    assert "expected" in said


def test_only_json_of_some_size_is_taken(client):
    assert client.post("/talk", data={"model": "one"}).status_code == 415
    assert (
        client.post("/talk", content=b"x" * 4_000_001, headers={"content-type": "application/json"}).status_code == 413
    )
    assert client.post("/talk", content=b"{", headers={"content-type": "application/json"}).status_code == 400


def test_the_report_is_served_as_it_is_and_can_run_nothing(client, tmp_path):
    assert "There is no report yet." in client.get("/report").text
    run = tmp_path / "runs/mine"
    run.mkdir(parents=True)
    (run / "report.html").write_text("<h1>mine</h1><script>alert(1)</script>")
    answer = client.get("/report")
    assert answer.text == "<h1>mine</h1><script>alert(1)</script>"
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "script-src" not in answer.headers["content-security-policy"]


def test_a_file_that_goes_between_two_looks_is_told_on_the_page(recipe):
    def gone(file):
        raise FileNotFoundError(2, "No such file or directory", "rows.jsonl")

    site = site_of(recipe)
    answer = client_of(Site(recipe, gone, site.ask_states, site.address)).get("/rows/sft/0")
    assert answer.status_code == 503
    assert "([Errno 2] No such file or directory: &#39;rows.jsonl&#39;). If it is being" in answer.text


def test_curves_are_those_of_the_report_with_the_trackers_command(client, tmp_path):
    assert "No training of this recipe is finished yet." in client.get("/curves").text
    run = demo_like_run(tmp_path / "runs/mine")
    (run / "logs/sft/x").mkdir(parents=True)
    (run / "logs/sft/x/events.out.tfevents.1.host").touch()
    page = client.get("/curves").text
    assert page.count("<figure>") >= 4
    assert f"tensorboard --logdir {run / 'logs'}" in page
    assert "style=" not in page, "the page's policy allows none"
    (run / "sft/trainer_state.json").write_text("{")
    assert "expected valid JSON" in client.get("/curves").text


def test_below_a_proxys_path_links_lead_where_they_should(recipe):
    """Whether a proxy takes its path away or leaves it."""
    for path in ("/rows/sft/0", "/user/me/rows/sft/0"):
        client = client_of(site_of(recipe, prefix="/user/me"))
        page = client.get(path).text
        assert "It is 2." in page
        assert 'href="../../static/ui.css"' in page
    assert client.get("/user/meet").status_code == 404
    assert client.get("/user/me").headers["location"] == "/user/me/", "from where relative links lead below it"
    assert client.get("/user/me/").status_code == 200


def test_a_recipe_of_no_rows_and_no_models_has_its_pages(tmp_path):
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "data.yaml").write_text("counts: {}\n")
    client = client_of(site_of(folder))
    assert "No file of this recipe has rows." in client.get("/rows").text
    assert "No file of this recipe trains." in client.get("/refused").text
    assert "No model of this recipe is there yet." in client.get("/chat").text
    assert "There is no report yet." in client.get("/report").text


def test_what_a_model_is_called_is_text(recipe, tiny_model):
    file = recipe / "eval.yaml"
    file.write_text(file.read_text().replace("one:", '"<img src=x onerror=alert(1)>":'))
    page = client_of(site_of(recipe)).get("/chat").text
    assert "&lt;img src=x onerror=alert(1)&gt;" in page
    assert "<img" not in page


def test_every_page_says_what_a_browser_may_do_with_it(client):
    for path in (*READ, "/nothing"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"
        assert not any(name.startswith("access-control") for name in headers)


def test_rows_that_are_written_anew_are_read_anew(client, recipe):
    assert "It is 2." in client.get("/rows/sft/0").text
    (recipe / "rows.jsonl").write_text(json.dumps(chat("2 + 2?", "It is 4.", False)) + "\n")
    page = client.get("/rows/sft/0").text
    assert "It is 4." in page
    assert "It is 2." not in page
