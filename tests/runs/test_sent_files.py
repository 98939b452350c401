"""What is sent of a model's folder: no file of it tells where it lay on this machine."""

import json
from pathlib import Path

import pytest

from apo_soup.errors import UserError
from apo_soup.runs.sent_files import parcel_of, sent_content


@pytest.fixture
def sent(tmp_path, monkeypatch):
    """Puts files into a model's folder of a run; gives what is sent of it. The home is /home/alice, or another."""

    def send(home: str = "/home/alice", **files: object) -> dict[str, str]:
        monkeypatch.setenv("HOME", home)
        folder = tmp_path / "sft"
        folder.mkdir(exist_ok=True)
        (folder / "manifest.json").write_text(json.dumps({"stage": "sft", "inputs": {}, "config": {}}))
        (folder / "README.md").write_text("# sft\n")
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / name).write_text(text)
        content = sent_content(parcel_of(tmp_path, "sft"), tmp_path, "sft")
        return {name: (c.read_bytes() if isinstance(c, Path) else c).decode() for name, c in content.items()}

    return send


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("/home/alice/my models/base", "base"),
        ("from /home/alice/w/base", "from w/base"),
        ("from /mnt/secret/alice/base", "from base"),
        ("source:/mnt/secret/alice/rows.jsonl", "source:rows.jsonl"),
        ("/home/alice/run(1)/x", "x"),
        ("/home/alice/a,b/x", "x"),
        ("/mnt/alice/rows.jsonl[:100]", "rows.jsonl[:100]"),
        ("file:///home/alice/x", "x"),
        ("see file:///mnt/alice/x.", "see x."),
        ("C:/Users/alice/m", "m"),
        ("at C:/Users/alice/m", "at m"),
        (r"\\server\alice\share\x", "x"),
        ("~alice/x", "x"),
        ("cc -I/opt/alice/include", "cc -Iinclude"),
        # No path of a machine.
        ("owner/name", "owner/name"),
        ("https://host:80/a/b, s3://bucket/a/b", "https://host:80/a/b, s3://bucket/a/b"),
        ("/no_think Answer yes/no", "/no_think Answer yes/no"),
        ("</tool_call>", "</tool_call>"),
        ("1/2/3 of m/s, about ~5/6", "1/2/3 of m/s, about ~5/6"),
    ],
)
def test_a_path_in_settings_becomes_its_last_part(sent, given, left):
    """As a value, inside a list, as a key; in a model's configuration and beside its weights."""
    files = {"config.json": {"is": given, given: [{"y": given}]}, "model.safetensors.index.json": {"metadata": given}}
    content = sent(**files)
    assert json.loads(content["config.json"]) == {"is": left, left: [{"y": left}]}
    assert json.loads(content["model.safetensors.index.json"]) == {"metadata": left}


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("chat_template.jinja", "{# see /home/alice/w/x.jinja #}", "/home/alice"),
        ("chat_template.jinja", "{# see /mnt/scratch/alice/x.jinja #}", "/mnt/scratch/alice/x.jinja"),
        ("tokenizer_config.json", {"chat_template": "{#\n/home/alice/w/x.jinja #}"}, "/home/alice"),
        ("tokenizer_config.json", {"chat_template": [{"name": "a", "template": "{# /mnt/a/b #}"}]}, "/mnt/a/b"),
        ("tokenizer.json", '{"model": {"vocab": {"/home/alice/x": 1}}}', "/home/alice"),
        ("modeling_own.py", 'BASE = "/home/alice/base"', "/home/alice"),
    ],
)
def test_a_path_where_every_character_counts_keeps_the_model_here(sent, name, content, told):
    with pytest.raises(UserError, match=f"{name}: expected a file that names no folder of this machine, got {told} in"):
        sent(**{name: content})


def test_a_home_of_one_part_is_looked_for_before_a_path(sent):
    """`/root` is a word of vocabularies and a tag too."""
    words = '{"model": {"vocab": {"/root": 1, "</root>": 2, "/root/": 3}}}'
    template = "{# </root> and https://host/root/x, /think/no_think #}"
    files = {"tokenizer.json": words, "chat_template.jinja": template, "config.json": {"x": "in /root/x: y"}}
    content = sent("/root", **files)
    assert (content["tokenizer.json"], content["chat_template.jinja"]) == (words, template)
    assert json.loads(content["config.json"]) == {"x": "in x: y"}
    with pytest.raises(UserError, match=r"own\.py: .* got /root in it"):
        sent("/root", **{"own.py": '"/root/x"'})


def test_tokens_are_sent_as_they_are(sent):
    """A token that looks like a path is one still."""
    settings = {"added_tokens_decoder": {"7": {"content": "/a/b"}}, "additional_special_tokens": ["/a/b"]}
    assert json.loads(sent(**{"tokenizer_config.json": settings})["tokenizer_config.json"]) == settings
