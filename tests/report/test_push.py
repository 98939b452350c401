"""A run's model and report on the way to the Hub, which is a loopback one."""

import json
import shutil
from collections.abc import Iterator

import pytest
from hub import Hub, python_with_hub

TASK = {"name": "preference", "kind": "preference", "data": "pairs.jsonl"}


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub() as served:
        yield served


def test_a_run_is_sent_with_its_report_and_without_a_secret(hub, tiny_model, tmp_path):
    """Without a repository or a token nothing is sent; with both, what was listed arrives."""
    recipe = tmp_path / "recipe"
    recipe.mkdir()
    run = tmp_path / "run"
    suite = {"output_dir": str(run / "evals"), "models": {"merged": str(run / "merged")}, "tasks": [TASK]}
    (recipe / "eval.yaml").write_text(json.dumps(suite))
    missing = python_with_hub(hub, tmp_path, "-m", "apo_soup", "push", recipe)
    assert missing.returncode == 2
    assert "expected a whole model folder, got none" in missing.stderr
    shutil.copytree(tiny_model, run / "merged")
    (run / "merged" / "manifest.json").write_text(json.dumps({"stage": "merged", "outputs": {}}))
    (run / "merged" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# merged\n")
    (run / "report.html").write_text("<!doctype html>")
    listed = python_with_hub(hub, tmp_path, "-m", "apo_soup", "push", recipe, "--repo", "somebody/model")
    assert listed.returncode == 0, listed.stderr
    assert "model.safetensors" in listed.stdout
    assert "nothing was sent; give a token" in listed.stdout
    assert ("model", "somebody/model") not in hub.repositories
    sent = python_with_hub(
        hub, tmp_path, "-m", "apo_soup", "push", recipe, "--repo", "somebody/model", HF_TOKEN="hf_secret"
    )
    assert sent.returncode == 0, sent.stderr
    assert "hf_secret" not in sent.stdout + sent.stderr
    files = hub.repositories["model", "somebody/model"]["main"]
    assert files["model.safetensors"] == (tiny_model / "model.safetensors").read_bytes()
    assert files["report.html"] == b"<!doctype html>"
    assert "manifest.json" not in files
    assert hub.tokens == {"hf_secret"}
