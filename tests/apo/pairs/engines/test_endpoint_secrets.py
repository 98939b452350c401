"""Nothing that a file gives an endpoint stands in what is written or printed, wherever it was planted."""

import json
import re
import shlex
import traceback

import pytest
import yaml

from apo_soup.config.load import load
from apo_soup.errors import UserError
from bench.serving import Proxy

pytest.importorskip("openai", reason="the openai package is not installed")

HEADER_NAMES = (
    "Authorization", "authorization", "apiKey", "api_key", "api-key", "access_key", "accessKey", "x-api-key", "bearer",
    "Bearer", "passwd", "password", "pwd", "secret", "client_secret", "token", "hf_token", "auth", "cookie", "session",
    "private_key", "credential", "credentials", "signature", "user", "ocp-apim-subscription-key", "temperature",
    "model", "metadata",
)  # fmt: skip


def planted():
    """Further fields of a request with a secret in each, and the harmless ones beside them."""
    number = iter(range(100, 200))

    def secret():
        return f"PLANTED{next(number)}plantedsecret"

    body = {name: secret() for name in HEADER_NAMES}
    body |= {
        "headers": {"Authorization": f"Bearer {secret()}", "nested": {"deep": [secret(), {"deeper": secret()}]}},
        "list": [secret(), secret()],
        "reasoning_effort": secret(),
        secret(): 1,
        secret(): {secret(): True},
        "url": f"https://user:{secret()}@host/path?sig={secret()}#{secret()}",
        "top_p": [secret()],
        "seed": {"value": secret()},
        "quoted": f'a "{secret()}"\n',
    }
    return body


def everything_written(folder):
    return "".join(f"{f.name}\n{f.read_bytes().decode(errors='replace')}" for f in folder.rglob("*") if f.is_file())


@pytest.fixture
def parrot():
    """A server that repeats what it was sent: in a refusal, in an error of a 200, in its name, in an answer."""
    sent = []

    class Parrot(Proxy):
        def reply(self, number, path, body):
            said = json.dumps({**json.loads(body), "key": self.asked[number]["key"], "path": path})
            sent.append(said)
            choice = {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": f"it is {number}"},
            }
            good = {"choices": [choice], "usage": None, "model": said, "system_fingerprint": said}
            if number == 0:
                return 403, {"content-type": "application/json"}, json.dumps({"error": {"message": said}}).encode()
            if number == 1:
                good = {"error": {"message": said}}
            if number == 2:
                choice["message"]["content"] = said
            return 200, {"content-type": "application/json"}, json.dumps(good).encode()

    made = Parrot("http://127.0.0.1:9/v1")
    made.sent = sent
    yield made
    made.close()


def test_no_planted_secret_is_written_or_printed(parrot, endpoint_recipe, make_here, monkeypatch, capsys, tmp_path):
    body = planted() | {"temperature": 0.5, "presence_penalty": 1.5, "reasoning_effort": "low"}
    monkeypatch.setenv("MY_KEY", "PLANTEDenvironment")
    url = f"{parrot.url}?key=PLANTEDquery&api-version=7"
    path, folder = endpoint_recipe(
        url, side={"concurrency": 1, "extra_body": body, "api_key_env": "MY_KEY", "retries": 0}, count=6
    )
    on_command_line = ["--weak.extra_body", yaml.safe_dump({"auth": "PLANTEDcommand"}, default_flow_style=True)]
    monkeypatch.setattr("sys.orig_argv", ["python", "-m", "apo.pairs", "--config", str(path), *on_command_line])
    make_here(path, *on_command_line)
    recipe_text = path.read_text()
    assert recipe_text.count("PLANTED") > 40
    assert "PLANTEDenvironment" in parrot.sent[0], "the key is sent"
    assert "key=PLANTEDquery&api-version=7" in parrot.sent[0], "so is the query"
    written = everything_written(folder.parent) + "".join(capsys.readouterr())
    assert re.findall(".{30}PLANTED.{20}", written) == []
    assert "PLANTED" not in written
    manifest = json.loads((folder / "manifest.json").read_text())
    shown = manifest["config"]["strong"]["extra_body"]
    assert shown.pop("(hidden)") == len(body) - 3
    assert shown == {"temperature": 0.5, "presence_penalty": 1.5, "reasoning_effort": "low"}
    assert manifest["config"]["strong"]["base_url"] == parrot.url
    assert "--weak.extra_body '(hidden)'" in manifest["command"]
    reasons = [json.loads(line)["reason"] for line in (folder / "drops.jsonl").read_text().splitlines()]
    assert len(reasons) == 3
    assert sum("refused by the server" in reason for reason in reasons) == 2
    assert "strong: a secret of the file in the answer" in reasons


def test_no_secret_of_a_judge_is_written_or_printed(parrot, endpoint_recipe, make_here, monkeypatch, capsys):
    """The parrot repeats all that it was sent, in a verdict too."""
    monkeypatch.setenv("JUDGE_KEY", "PLANTEDenvironment")
    judge = {
        "model": "j", "base_url": f"{parrot.url}?key=PLANTEDquery", "extra_body": planted(), "retries": 0, "votes": 2,
        "temperature": 1, "concurrency": 1, "api_key_env": "JUDGE_KEY",
    }  # fmt: skip
    path, folder = endpoint_recipe(parrot.url, side={"concurrency": 1, "retries": 0}, count=6, judge=judge)
    with pytest.raises(UserError) as error:
        make_here(path)
    assert any("PLANTEDenvironment" in sent for sent in parrot.sent), "the judge is asked, with its key"
    assert any("key=PLANTEDquery" in sent for sent in parrot.sent)
    written = everything_written(folder.parent) + "".join(capsys.readouterr()) + str(error.value)
    assert "PLANTED" not in written


@pytest.mark.parametrize(
    "side",
    [
        {"extra_body": "PLANTED"},
        {"extra_body": ["PLANTED"]},
        {"base_url": "PLANTED"},
        {"base_url": "ftp://u:PLANTED@x/v1"},
        {"base_url": "x:/v1?key=PLANTED"},
        {"base_url": "http://[PLANTED?x"},
        {"base_url": {"a": "PLANTED"}},
        {"api_key_env": "sk-PLANTED"},
        {"api_key_env": "sk_PLANTED0123456789"},
        {"api_key_env": ["PLANTED"]},
        {"headers": {"Authorization": "PLANTED"}},
        {"api_key": "PLANTED"},
    ],
)
def test_a_mistake_is_told_without_the_value(endpoint_recipe, side):
    path, _ = endpoint_recipe("http://x/v1", side=side)
    with pytest.raises(UserError) as error:
        load(path, "pairs")
    assert "PLANTED" not in str(error.value)


def test_a_server_that_fails_is_told_without_secrets(endpoint_recipe, make_here, capsys):
    path, _ = endpoint_recipe("http://127.0.0.1:9/v1", side={"retries": 0}, count=1)
    words = shlex.split("--strong.extra_body '{a: {b: PLANTED}}' --strong.base_url http://127.0.0.1:9/v1?key=PLANTED")
    with pytest.raises(UserError, match=r"at http://127.0.0.1:9/v1, got a failure on one request") as error:
        make_here(path, *words)
    assert "PLANTED" not in str(error.value) + "".join(capsys.readouterr())


@pytest.mark.parametrize("status", [401, 404, 418, 500])
def test_causes_that_debug_shows_hold_no_secret(endpoint_recipe, make_here, monkeypatch, status):
    """A server quotes the key and the request in its refusal, whose exception was the cause of ours."""

    class Quotes(Proxy):
        def reply(self, number, path, body):
            said = json.dumps({"error": {"message": f"{self.asked[number]['key']} {body.decode()}"}})
            return status, {"content-type": "application/json"}, said.encode()

    monkeypatch.setenv("MY_KEY", "PLANTEDenvironment")
    server = Quotes("http://127.0.0.1:9/v1")
    side = {"retries": 0, "api_key_env": "MY_KEY", "extra_body": {"auth": "PLANTEDbodysecret"}}
    path, _ = endpoint_recipe(server.url, side=side, count=1)
    with pytest.raises(UserError, match="expected an answer of the server at") as error:
        make_here(path)
    server.close()
    assert any("PLANTED" in str(asked) for asked in server.asked)
    assert "PLANTED" not in "".join(traceback.format_exception(error.value))
