"""`apo-soup ui` as a program: it serves until Ctrl-C, logs no token, and says in a sentence what is wrong."""

import os
import re
import signal
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from helpers import python
from ui_helpers import recipe_with_models, started

from apo_soup.cli.ui import serve_ui
from apo_soup.errors import UserError


@pytest.fixture
def bare(tmp_path) -> Path:
    folder = tmp_path / "bare"
    folder.mkdir()
    (folder / "sft.yaml").write_text("learning_rate: 1\n")
    return folder


def test_it_serves_until_an_interrupt_and_ends_clean(bare):
    page, url = started(bare, "--port", "0")
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
    text = urllib.request.urlopen(url, timeout=10).read().decode()
    assert "<b>bare</b>" in text
    os.kill(page.ids[0], signal.SIGINT)
    ended = page.wait(20)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.endswith("ended\n")
    assert ended.stderr == ""


def test_an_answer_that_is_written_ends_with_it(tmp_path, tiny_model):
    folder = recipe_with_models(tmp_path, [], {"one": tiny_model})
    page, url = started(folder, "--port", "0")
    asked = b'{"model": "one", "think": false, "turns": [{"role": "user", "content": "1?"}], "max_new_tokens": 100000}'
    headers = {"content-type": "application/json"}
    answer = urllib.request.urlopen(urllib.request.Request(f"{url}talk", asked, headers), timeout=60)
    first = next(line for line in answer if line.startswith(b"data: "))  # before it, that it is still there
    assert first.startswith(b'data: {"kind": "load"')
    os.kill(page.ids[0], signal.SIGINT)
    ended = page.wait(20)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_token_is_printed_once_and_never_logged(bare):
    page, url = started(bare, "--port", "0", "--token")
    plain, _, token = url.partition("#token=")
    assert len(token) == 43
    for path in ("", f"?token={token}", "nothing"):
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(plain + path, timeout=10)
    asked = urllib.request.Request(plain, headers={"authorization": f"Bearer {token}"})
    assert urllib.request.urlopen(asked, timeout=10).status == 200
    os.kill(page.ids[0], signal.SIGTERM)
    ended = page.wait(20)
    assert (ended.stdout + ended.stderr).count(token) == 1
    assert ended.returncode == 128 + signal.SIGTERM


def test_a_port_that_is_taken_is_a_sentence(bare):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = python("-m", "apo_soup", "ui", bare, "--port", str(port))
    assert result.returncode == 2
    assert result.stderr == (
        f"error: --port: expected a free port, got {port}, which another program has taken; end it, or name another "
        "port (0: any that is free)\n"
    )


def test_a_missing_extra_is_a_sentence_with_the_command(bare, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parent)])
    monkeypatch.setattr(sys, "path_importer_cache", {})
    for name in [name for name in sys.modules if name.partition(".")[0] in ("starlette", "uvicorn")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"got none of starlette and uvicorn; pip install 'apo-soup\[ui\]'"):
        serve_ui(bare, "127.0.0.1", 0, [], False, "")


def test_what_is_no_recipe_and_no_path_is_a_sentence(tmp_path, bare):
    with pytest.raises(UserError, match=r"expected a folder with stage files, such as sft\.yaml, got none"):
        serve_ui(tmp_path, "127.0.0.1", 0, [], False, "")
    with pytest.raises(UserError, match="--root-path: expected a path that begins with /, got user/me"):
        serve_ui(bare, "127.0.0.1", 0, [], False, "user/me")
