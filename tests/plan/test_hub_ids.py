"""The files of what a recipe names on the Hub, which is a loopback one."""

import huggingface_hub
from hub import Hub

from apo_soup.plan.hub_ids import HubId, ask_hub

FILES = {
    "whole": ["config.json", "adapter_config.json"],
    "lora": ["adapter_config.json", "adapter_model.safetensors"],
    "gguf": ["README.md", "model-q8_0.GGUF"],
    "empty": ["README.md"],
}


def test_what_is_no_model_by_its_files_is_told(monkeypatch):
    """An adapter may be evaluated and talked to; a training does not begin with it."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with Hub() as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        for name, files in FILES.items():
            hub.put("model", f"o/{name}", dict.fromkeys(files, b"{}"))
        hub.put("dataset", "o/rows", {"README.md": b""})
        ids = [HubId("model", f"o/{name}", None, f"{name}.yaml:1") for name in FILES]
        ids += [HubId("model", "o/lora", None, "sft.yaml:1", trained=True), HubId("dataset", "o/rows", None, "x")]
        found = ask_hub(ids)
    assert found.unseen == []
    assert found.problems == [
        "gguf.yaml:1: expected a model with config.json, got o/gguf, whose GGUF files are for llama.cpp and cannot be "
        "loaded here; name the model that they were made of",
        "empty.yaml:1: expected a model with config.json, got o/empty, which has none; name another",
        "sft.yaml:1: expected a whole model, or the folder of an adapter, got o/lora, which is an adapter of the Hub; "
        "fetch it with `hf download o/lora --local-dir lora`, and write ./lora and use_peft: true",
    ]
