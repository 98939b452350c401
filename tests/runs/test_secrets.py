"""Secrets are hidden in commands and configurations."""

import pytest

from apo_soup.config.in_words import mappings_inside
from apo_soup.config.keys import has_mark
from apo_soup.config.load import file_model
from apo_soup.errors import HIDDEN
from apo_soup.runs.manifest import differences
from apo_soup.runs.secrets import SECRET_KEY, groups_without_secrets, redacted, without_secrets


def test_secrets_are_hidden_in_commands_and_configurations():
    words = ["python", "-m", "sft", "--hub_token", "hf_abc", "--max_new_tokens", "5", "--eos_token", "<|im_end|>"]
    words += ["--hub_token=hf_abc", "--model_init_kwargs", "{token: hf_abc}", "--model_init_kwargs.token", "abc"]
    assert without_secrets(words) == ["python", "-m", "sft", *words[5:9], "--model_init_kwargs", "(hidden)"]
    config = {"model_init_kwargs": {"token": "hf_abc"}, "max_new_tokens": 5, "eos_token": "<|im_end|>"}
    assert redacted(config)["model_init_kwargs"] == {"token": "(hidden)"}
    assert redacted(config)["eos_token"] == "<|im_end|>"
    assert differences({"inputs": {}, "config": redacted(config)}, config, {}) == []


def declared(model, prefix=""):
    """Dotted name and declaration of every key at any depth."""
    for name, field in model.model_fields.items():
        yield prefix + name, field
        for inside in mappings_inside(field.annotation):
            yield from declared(inside, f"{prefix}{name}.")


ENDPOINT_SECRETS = ("api_key_env", "base_url", "extra_body")


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("data", set()),
        ("sft", {"hub_token"}),
        ("traces", {f"{place}.{name}" for place in ("strong", "judge") for name in ENDPOINT_SECRETS}),
        ("pairs", {f"{place}.{name}" for place in ("strong", "weak", "judge") for name in ENDPOINT_SECRETS}),
        ("apo", {"hub_token"}),
        ("merge", set()),
        ("eval", {f"{place}.{name}" for place in ("endpoint", "tasks.judge") for name in ENDPOINT_SECRETS}),
    ],
)
def test_every_key_declared_secret_is_hidden_at_any_depth(kind, names):
    keys = list(declared(file_model(kind)))
    assert {name for name, field in keys if has_mark(field, "secret")} == names
    assert {name for name, _ in keys if SECRET_KEY.search(name.rpartition(".")[2])} <= names
    for name in names:
        last = name.rpartition(".")[2]
        for value in ("abc", 12345, ["abc"], ["https://u:p@host/?key=abc", "abc"]):
            config = {"x": {last: value}}
            assert redacted(config) == {"x": {last: HIDDEN}}
            shown = without_secrets(["sft", f"--{name}", str(value), "--seed", "1"])
            assert shown in (["sft", f"--{name}", HIDDEN, "--seed", "1"], ["sft", "--seed", "1"])
            assert groups_without_secrets([f"--{name}={value}", "--seed", "1"]) == ["--seed", "1"]
        assert redacted({last: None}) == {last: None}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--strong.extra_body", "{api-key: abc}"], ["--strong.extra_body", HIDDEN]),
        (["--strong.extra_body", "{top_k: 5}"], ["--strong.extra_body", "{top_k: 5}"]),
        (["--strong.extra_body.top_k", "5"], ["--strong.extra_body.top_k", "5"]),
        (["--strong.extra_body.top_k", "abc"], ["--strong.extra_body.top_k", HIDDEN]),
        (["--strong.extra_body.headers.top_k", "5"], ["--strong.extra_body.headers.top_k", HIDDEN]),
        (["--strong.extra_body.x=abc"], [f"--strong.extra_body.x={HIDDEN}"]),
        (["--strong={extra_body: {x: abc}}"], [f"--strong={HIDDEN}"]),
        (["--strong", "{extra_body: {x: abc"], ["--strong", HIDDEN]),
        (["--strong.base_url", "https://u:p@host/v1?key=abc#d"], ["--strong.base_url", "https://host/v1"]),
        (["--strong.base_url=https://host/v1"], ["--strong.base_url=https://host/v1"]),
        (["--model_init_kwargs", "{x: {Api-Key: abc}}"], ["--model_init_kwargs", HIDDEN]),
        (["--learning_rate", "-1", "--bf16", "--name", "x"], ["--learning_rate", "-1", "--bf16", "--name", "x"]),
    ],
)
def test_a_command_shows_of_an_endpoint_what_is_harmless(words, shown):
    assert without_secrets(words) == shown
    assert groups_without_secrets([*words, "--seed", "1"]) == [*(words if words == shown else []), "--seed", "1"]


def test_what_is_sent_to_an_endpoint_is_shown_by_a_list_of_names():
    sent = {"top_k": 5, "verbosity": "low", "seed": "abc", "reasoning_effort": "abc", "abc": 1, "headers": {"top_k": 1}}
    assert redacted({"strong": {"extra_body": sent}}) == {
        "strong": {"extra_body": {"top_k": 5, "verbosity": "low", HIDDEN: 4}}
    }
    assert redacted({"x": {"access_key": {"deep": ["abc"]}}}) == {"x": {"access_key": {"deep": [HIDDEN]}}}


@pytest.mark.parametrize(
    "planted", ["Bearer hf_" + "aB3" * 10, "sk-" + "a1" * 12, "ghp_" + "c2" * 12, "AKIA" + "A1" * 8]
)
def test_a_key_of_a_known_sort_is_hidden_wherever_it_stands(planted):
    config = {"tasks": [{"metadata": {"note": [planted]}, "data": f"https://host/{planted}", "model": "org/hf_model"}]}
    assert redacted(config) == {"tasks": [{"metadata": {"note": [HIDDEN]}, "data": HIDDEN, "model": "org/hf_model"}]}


LETTERS = "AbCdEfGhIjKlMnOpQrStUvWxYz0123456789"


@pytest.mark.parametrize(
    "key",
    [
        "sk-ant-api03-" + LETTERS,
        "sk-or-v1-" + "0a1b" * 16,
        "github_pat_11ABCDEFG0_" + LETTERS,
        "glpat-" + LETTERS[:20],
        "AIzaSyD-" + LETTERS,
        "gsk_" + LETTERS,
        "xai-" + LETTERS,
        "nvapi-" + LETTERS,
        "pplx-" + LETTERS,
        "csk-" + LETTERS,
        "r8_" + LETTERS,
        "fw_" + LETTERS,
        "tgp_v1_" + LETTERS,
        "dapi" + "0123456789abcdef" * 2,
        "ABSK" + LETTERS + "==",
        "api_org_" + LETTERS,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N",
    ],
)
def test_keys_of_services_are_hidden_in_any_text_and_word(key):
    for place in (key, f"run of {key}", f"git+https://{key}@host/x", [key], {"FOO": f"Bearer {key}"}):
        assert key not in str(redacted({"note": place}))
    for words in (["--note", key], [f"--note={key}"], [f"--env.FOO={key}"], [f"FOO={key}"]):
        assert key not in str(without_secrets(words))


def test_secrets_named_in_a_text_are_hidden_and_names_of_variables_are_not():
    """Keys that look like any hash are known by the name before them, and a password by its address."""
    secret = "0123456789abcdef0123456789abcdef"
    for text in (
        f"export WANDB_API_KEY={secret}", f"api_key='{secret}' x", f"HF_TOKEN={secret} make mid",
        f"MY_TOKEN='{secret}'",
        f"AZURE_OPENAI_KEY={secret}", "DB_PASSWORD=abc", "AWS_SECRET_ACCESS_KEY=a/b+c", "KEY=Zm9vYmFyMTIzNDU2",
        "HUGGINGFACE_TOKEN=abc", "WANDB_KEY=abc", f"MY_KEY={'abcdefgh' * 3}",
    ):  # fmt: skip
        before = text[: text.index("=") + 1]
        after = " x" if text.endswith("' x") else ""
        assert redacted({"setup": [f"a\n{text}\nb"]}) == {"setup": [f"a\n{before}(hidden){after}\nb"]}
        assert without_secrets([text]) == [f"{before}(hidden){after}"]
    several = f"A_KEY='{secret}\nx' HF_TOKEN={secret} b\nWANDB_API_KEY=\"{secret}"
    assert redacted(f"B_KEY={secret}\\\n{secret}\nc", "note") == "B_KEY=(hidden)\nc"
    for beyond in (
        f"='it''s {secret}' x", f"=\"first\",{secret}", f"='it'\\''s one\n{secret}'", f"=a\"b\n{secret}\"",
        f"=-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----",
    ):  # fmt: skip
        assert redacted(f"a\nMY_PASSWORD{beyond}", "note") == "a\nMY_PASSWORD=(hidden)"
    assert redacted(several, "note") == "A_KEY=(hidden) HF_TOKEN=(hidden)\nWANDB_API_KEY=(hidden)"
    assert redacted("see http://me:word@proxy:80 now", "note") == "see http://(hidden)@proxy:80 now"
    for text in (
        "export HF_TOKEN=$TOKEN", "KEY='${SECRET}'", "key = value", "s3://bucket/rows", secret,
        "{% set EOS_TOKEN='x' %}{{ messages }}", "PAD_TOKEN=reserved_special_token_12", "Answer as KEY=VALUE.",
        "SORT_KEY=name, TOKEN=word", "api_key={{ key }}",
    ):  # fmt: skip
        assert redacted(text, "note") == text


def test_what_goes_to_the_server_of_a_data_set_is_hidden():
    kwargs = {"data_files": "a.jsonl", "storage_options": {"key": "abc", "headers": {"X-Auth": "abc"}}}
    assert redacted({"dataset_kwargs": kwargs})["dataset_kwargs"] == {
        "data_files": "a.jsonl", "storage_options": {HIDDEN: 2},
    }  # fmt: skip


def test_a_manifest_of_an_earlier_release_tells_no_secret():
    old = {"inputs": {}, "config": {"strong": {"extra_body": {"x-key": "abc"}, "base_url": "http://h/v1?k=abc"}}}
    now = {"strong": {"extra_body": {"x-key": "def", "top_k": 3}, "base_url": "http://h/v1"}}
    told = differences(old, now, {})
    assert told == ["strong.extra_body.top_k was not given and is 3"]
