"""Secrets are hidden in commands and configurations."""

import pytest

from apo_soup.config.keys import has_mark
from apo_soup.config.load import file_model
from apo_soup.runs.manifest import differences
from apo_soup.runs.secrets import HIDDEN, SECRET_KEY, redacted, without_secrets


def test_secrets_are_hidden_in_commands_and_configurations():
    words = ["python", "-m", "sft", "--hub_token", "hf_abc", "--max_new_tokens", "5", "--eos_token", "<|im_end|>"]
    words += ["--hub_token=hf_abc", "--model_init_kwargs", "{token: hf_abc}", "--model_init_kwargs.token", "abc"]
    assert without_secrets(words) == ["python", "-m", "sft", *words[5:9], "--model_init_kwargs", "(hidden)"]
    config = {"model_init_kwargs": {"token": "hf_abc"}, "max_new_tokens": 5, "eos_token": "<|im_end|>"}
    assert redacted(config)["model_init_kwargs"] == {"token": "(hidden)"}
    assert redacted(config)["eos_token"] == "<|im_end|>"
    assert differences({"inputs": {}, "config": redacted(config)}, config, {}) == []


@pytest.mark.parametrize("kind", ["data", "sft", "pairs", "apo", "merge", "eval"])
def test_every_key_declared_secret_is_hidden_in_manifests(kind):
    model = file_model(kind)
    secrets = {name for name, field in model.model_fields.items() if has_mark(field, "secret")}
    assert all(redacted({name: "hf_abc"}) == {name: HIDDEN} for name in secrets)
    assert {name for name in model.model_fields if SECRET_KEY.search(name)} <= secrets
