"""Secrets are hidden in commands and configurations."""

from apo_soup.runs.manifest import differences
from apo_soup.runs.secrets import redacted, without_secrets


def test_secrets_are_hidden_in_commands_and_configurations():
    words = ["python", "-m", "sft", "--hub_token", "hf_abc", "--max_new_tokens", "5", "--eos_token", "<|im_end|>"]
    words += ["--hub_token=hf_abc", "--model_init_kwargs", "{token: hf_abc}", "--model_init_kwargs.token", "abc"]
    assert without_secrets(words) == ["python", "-m", "sft", *words[5:9], "--model_init_kwargs", "(hidden)"]
    config = {"model_init_kwargs": {"token": "hf_abc"}, "max_new_tokens": 5, "eos_token": "<|im_end|>"}
    assert redacted(config)["model_init_kwargs"] == {"token": "(hidden)"}
    assert redacted(config)["eos_token"] == "<|im_end|>"
    assert differences({"inputs": {}, "config": redacted(config)}, config, {}) == []
