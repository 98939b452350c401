"""A run's model and report on the way to the Hub, which is a loopback one."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
import yaml
from helpers import counted_source, state_dict
from hub import Hub, python_with_hub

from apo_soup.errors import UserError
from apo_soup.report.push import push_model
from apo_soup.runs.sent_files import commit_operations, parcel_of, sent_content

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
    missing = python_with_hub(hub, "-m", "apo_soup", "push", recipe)
    assert missing.returncode == 2
    assert "expected a whole model folder, got none" in missing.stderr
    shutil.copytree(tiny_model, run / "merged")
    (run / "merged" / "manifest.json").write_text(json.dumps({"stage": "merged", "outputs": {}}))
    (run / "merged" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# merged\n")
    (run / "report.html").write_text("<!doctype html>")
    listed = python_with_hub(hub, "-m", "apo_soup", "push", recipe, "--repo", "somebody/model")
    assert listed.returncode == 0, listed.stderr
    assert "model.safetensors" in listed.stdout
    assert "nothing was sent; give a token" in listed.stdout
    assert ("model", "somebody/model") not in hub.repositories
    sent = python_with_hub(hub, "-m", "apo_soup", "push", recipe, "--repo", "somebody/model", HF_TOKEN="hf_secret")
    assert sent.returncode == 0, sent.stderr
    assert "hf_secret" not in sent.stdout + sent.stderr
    files = hub.repositories["model", "somebody/model"]["main"]
    assert files["model.safetensors"] == (tiny_model / "model.safetensors").read_bytes()
    assert files["report.html"] == b"<!doctype html>"
    assert "manifest.json" not in files
    assert hub.tokens == {"hf_secret"}


def test_nothing_that_is_sent_holds_a_path_of_the_machine(tiny_model, tmp_path):
    """Rows, base and arguments that were given by absolute paths; a folder that was trained gets its card here."""
    run, base = tmp_path / "my runs" / "mine", tmp_path / "models" / "base"
    shutil.copytree(tiny_model, base)
    (base / "README.md").write_text("---\nlicense: mit\nlanguage: [en, de]\n---\n# base\n")
    shutil.copytree(tiny_model, run / "sft")
    source = counted_source(source=str(tmp_path / "rows.jsonl"))
    given = {"dataset_mixture": {"datasets": [{"id": str(tmp_path / "rows.jsonl")}]}, "learning_rate": 1e-5}
    made = {"stage": "sft", "outputs": {}, "inputs": {"model": "a" * 64}, "config": {**given, "max_length": 128}}
    made |= {"metrics": {"data": [source]}, "ran_with": {"model_name_or_path": str(base)}}
    made |= {"arguments": ["--model_name_or_path", str(base)], "command": f"python -m sft --config {tmp_path}/sft.yaml"}
    (run / "sft" / "manifest.json").write_text(json.dumps(made))
    config = json.loads((run / "sft" / "config.json").read_text())
    (run / "sft" / "config.json").write_text(json.dumps(config | {"_name_or_path": str(base)}))
    (run / "report.html").write_text(f"<p>made by <code>{made['command']}</code> of {base}, see https://a.b/c/d</p>")
    sent = sent_content(parcel_of(run, "sft", {"report.html": run / "report.html"}), run, "sft")
    files = {name: what.read_bytes() if isinstance(what, Path) else what for name, what in sent.items()}
    named = {name for name, content in files.items() if any(p in content for p in (b"/tmp", str(tmp_path).encode()))}
    assert not named
    assert files["report.html"].decode() == (
        "<p>made by <code>python -m sft --config sft.yaml</code> of base, see https://a.b/c/d</p>"
    )
    assert json.loads(files["config.json"])["_name_or_path"] == "base"
    assert files["tokenizer.json"] == (tiny_model / "tokenizer.json").read_bytes()
    card = files["README.md"].decode()
    about = yaml.safe_load(card.split("---")[1])
    count = sum(tensor.numel() for tensor in state_dict(tiny_model).values())
    assert about == {
        "library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["apo-soup"],
        "language": ["en", "de"], "parameters": count, "license": "mit",
    }  # fmt: skip
    assert f"It has {count:,} parameters." in card
    assert "1. base\n2. sft: from base (aaaaaaaaaaaa), learning_rate 1e-05, made with --model_name_or_path base" in card
    assert "- sft: rows.jsonl (think): 3 rows" in card
    assert "for at most 512 tokens; it was trained here on at most 128 tokens at once" in card
    (sent_card,) = (o.path_or_fileobj for o in commit_operations(sent, "me/mine") if o.path_in_repo == "README.md")
    assert sent_card == card.replace("FOLDER_OR_HUB_ID", "me/mine").encode() != card.encode()
    # A path where it cannot be taken out without another meaning: the model stays here.
    (run / "sft" / "chat_template.jinja").write_text(f"{{{{ '{run}' }}}}")
    with pytest.raises(UserError, match=r"chat_template\.jinja: expected a file that names no folder of this machine"):
        sent_content(parcel_of(run, "sft"), run, "sft")


@pytest.mark.parametrize("repository", [None, "somebody/mine"])
def test_what_may_not_be_sent_makes_no_repository(repository, hub, tiny_model, tmp_path, monkeypatch):
    """Told where nothing but the list is asked for, too; once it is mended, all is sent."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    shutil.copytree(tiny_model, tmp_path / "sft")
    (tmp_path / "sft" / "manifest.json").write_text(json.dumps({"stage": "sft", "inputs": {}, "config": {}}))
    template = tmp_path / "sft" / "chat_template.jinja"
    template.write_text(f"{{# {tmp_path}/x.jinja #}}")
    with pytest.raises(UserError, match=r"chat_template\.jinja: expected a file that names no folder of this machine"):
        push_model(tmp_path, "sft", repository, private=False)
    assert hub.repositories == {}
    template.unlink()
    assert push_model(tmp_path, "sft", repository, private=False) == 0
    assert list(hub.repositories) == ([("model", repository)] if repository else [])


@pytest.fixture
def sent(hub, tiny_model, tmp_path, monkeypatch):
    """Sends a finished folder to the loopback Hub."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    shutil.copytree(tiny_model, tmp_path / "sft")
    (tmp_path / "sft" / "manifest.json").write_text(json.dumps({"stage": "sft", "inputs": {}, "config": {}}))
    return lambda repository="somebody/mine": push_model(tmp_path, "sft", repository, private=False)


LATER = "and run the same command again"


@pytest.mark.parametrize("part", ["/api/repos/create", "/commit/"])
@pytest.mark.parametrize(
    ("status", "headers", "told"),
    [
        (401, {}, "expected a token that the Hub knows, got 401 (so it is); log in with `hf auth login`, or give "
                  "HF_TOKEN a token that is not expired or revoked"),
        (403, {}, "expected a token that may write there, got 403 (so it is); give one with the right to write, or "
                  "name a repository of your own"),
        (404, {"X-Error-Code": "RepoNotFound"}, "expected an owner and a repository that the Hub has, got 404 (so "),
        (412, {}, "expected a repository that nothing else changes meanwhile, got 412 (so it is); look at it on the "
                  f"Hub, {LATER}"),
        (429, {"Retry-After": "0"}, "expected fewer requests than the Hub's limit, got 429 (so it is); wait 0 s, and"),
        (400, {}, "expected a repository that may be written to, got 400 (so it is); correct the name, or log in"),
    ],
)  # fmt: skip
def test_what_the_hub_refuses_is_one_sentence(sent, hub, part, status, headers, told):
    hub.refusals[part] = status, headers
    with pytest.raises(UserError) as error:
        sent()
    assert str(error.value).startswith(f"--repo: somebody/mine: {told}")
    assert "\n" not in str(error.value)
    assert "hf_secret" not in str(error.value)


def test_a_hub_that_does_not_answer_and_a_name_that_is_none_are_told(sent, hub, monkeypatch):
    with pytest.raises(UserError, match=r"^--repo: expected OWNER/NAME of letters, .*, got a b/c!; correct the name$"):
        sent("a b/c!")
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    told = r"expected the Hub at http://127.0.0.1:9 to take me/mine, got no answer \(.*\); look at the network"
    with pytest.raises(UserError, match=f"^--repo: {told}, the proxy and HF_ENDPOINT, {LATER}$"):
        sent("me/mine")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=f"; unset HF_HUB_OFFLINE, {LATER}$"):
        sent("me/mine")
