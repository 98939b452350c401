"""Models and rows by their ids: what is local, what is missing, and the hash of their content."""

import pytest
from helpers import NO_WEIGHTS

from apo_soup.errors import UserError
from apo_soup.runs.chat_template import template_text
from apo_soup.runs.sources import is_local, model_folder, model_hash, row_files, rows_hash


@pytest.mark.parametrize(
    ("name", "local"),
    [("owner/name", False), ("owner/name@branch", False), ("runs/tiny", True), ("./x", True), ("name", True),
     ("owner/rows.jsonl", True), ("a/b/c", True)],
)  # fmt: skip
def test_an_id_of_the_hub_is_owner_and_name(name, local):
    assert is_local(name) is local


def test_a_model_folder_that_is_not_whole_is_one_sentence(tmp_path):
    there = tmp_path / "model"
    for made, sentence in (
        (lambda: None, "got .*, which is not there; run the stage that makes it, or correct the path .looked for"),
        (there.mkdir, "without one; correct the path"),
        ((there / "config.json").touch, r"without any; run the stage that makes it"),
        ((there / "consolidated.safetensors").touch, r"with consolidated\.safetensors; name it model\.safetensors, or"),
        ((there / "pytorch_model.bin").touch, r"with pytorch_model\.bin; load it in transformers and save it again"),
        (
            lambda: (there / "config.json").write_text('{"transformers_weights": "its.safetensors"}'),
            r"without its\.safetensors, which transformers_weights in its config\.json names; copy the whole folder",
        ),
    ):
        made()
        with pytest.raises(UserError, match=f"sft.yaml:1: .*{sentence}"):
            model_folder(str(there), "sft.yaml:1")
    with pytest.raises(UserError, match=r"expected a model folder with config.json and .*, got the file"):
        model_folder(str(there / "config.json"), "sft.yaml:1")
    (there / "its.safetensors").write_bytes(NO_WEIGHTS)
    assert model_folder(str(there), "sft.yaml:1") == there
    assert model_folder("owner/name", "sft.yaml:1") is None


@pytest.mark.parametrize("content", ["", "[]", "null", b"\xff\xfe", "[" * 10**5])
@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer_config.json"])
def test_settings_that_transformers_would_pass_over_are_one_sentence(tmp_path, name, content):
    for file in ("config.json", name):
        (tmp_path / file).write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(NO_WEIGHTS)
    assert model_folder(str(tmp_path), "here") == tmp_path
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=rf"^here: .*{name}: expected .*, got .*; copy the model again$"):
        model_folder(str(tmp_path), "here")


def test_a_path_that_is_not_there_names_both_places(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "recipe"
    both = f"looked for {recipe / 'rows.jsonl'} and {tmp_path / 'rows.jsonl'}"
    with pytest.raises(UserError) as missing:
        row_files("rows.jsonl", "sft.yaml:3", recipe)
    told = "expected a data file, got rows.jsonl, which is not there; correct the path"
    assert str(missing.value) == f"sft.yaml:3: {told} ({both})"
    with pytest.raises(
        UserError, match=r"expected apo-soup, trl, Jinja text, or a .jinja file, got 'own.jinja'; .*recipe/own"
    ):
        template_text("own.jinja", "sft.yaml:4", recipe)


def test_rows_are_files_or_a_glob_of_them_and_their_hash_is_that_of_their_content(write_rows, tmp_path):
    one, two = write_rows("a.jsonl", [{"n": 1}]), write_rows("b.jsonl", [{"n": 2}])
    assert row_files(str(tmp_path / "*.jsonl"), "x") == [one, two]
    before = rows_hash(str(one), "x")
    one.rename(tmp_path / "c.jsonl")
    assert rows_hash(str(tmp_path / "c.jsonl"), "x") == before
    assert rows_hash(str(two), "x") != before
    with pytest.raises(
        UserError,
        match=rf"x: expected a data file, got the folder {tmp_path}; name its files, such as '{tmp_path}/\*\.jsonl'",
    ):
        row_files(str(tmp_path), "x")


def test_a_file_that_cannot_be_read_is_one_sentence(tmp_path):
    (tmp_path / "r.jsonl").symlink_to("/proc/self/mem")  # reading it from the beginning fails for everybody
    with pytest.raises(
        UserError, match=r"x: expected data files that can be read, got .* \(.*r.jsonl\); check their perm"
    ):
        rows_hash(str(tmp_path / "r.jsonl"), "x")


def test_an_id_of_the_hub_is_hashed_by_its_commit_or_without_a_network_by_its_branch():
    assert model_hash("owner/name", "x") == "hub:owner/name@main"
    assert rows_hash("owner/rows", "x", "v1") == "hub:owner/rows@v1"


def test_a_template_is_ours_inline_or_a_file(tmp_path):
    file = tmp_path / "own.jinja"
    file.write_text("{{ messages }}")
    assert template_text(str(file), "x") == template_text("{{ messages }}", "x") == "{{ messages }}"
    assert "enable_thinking" in template_text("apo-soup", "x")
    assert template_text(None, "x") is None


WHOLE = "write its whole id, OWNER/{}, as its page has it"
FILE = "bring {} here and write its path, or, for all its files, {}"
NO_DATA, NO_MODEL = "write the id of a data set, or its path", "write the id of a model, or its path"
OF_MODEL = "write the id of a data set, for this is a model's"
OF_DATA = "write the id of a model, for this is a data set's"
NO_VARIABLES, SLASHES = "write the path itself, for a file has no variables", "write / between folders"
HERE = "bring it here, and write the path"


@pytest.mark.parametrize(
    ("name", "as_rows", "as_model"),
    [
        ("https://huggingface.co/org/m", OF_MODEL, "write the id org/m"),
        ("https://huggingface.co/org/m/resolve/main/model.safetensors?download=true", OF_MODEL, "write the id org/m"),
        ("hf://org/m@main/config.json", OF_MODEL, "write the id org/m"),
        ("https://huggingface.co/gpt2", OF_MODEL, WHOLE.format("gpt2")),
        ("https://hf.co/gpt2/tree/main", OF_MODEL, WHOLE.format("gpt2")),
        ("https://huggingface.co/datasets/org/rows/viewer/default", "write the id org/rows", OF_DATA),
        ("https://huggingface.co/datasets/squad#card", WHOLE.format("squad"), OF_DATA),
        ("https://huggingface.co/datasets/squad/viewer/plain", WHOLE.format("squad"), OF_DATA),
        ("https://huggingface.co/datasets/org/rows/resolve/main/a/train.jsonl",
         FILE.format("train.jsonl", "write the id org/rows"), OF_DATA),
        ("hf://datasets/org/rows@v1/train.jsonl", FILE.format("train.jsonl", "write the id org/rows"), OF_DATA),
        ("hf://datasets/squad/train.parquet", FILE.format("train.parquet", WHOLE.format("squad")), OF_DATA),
        ("hf://datasets/squad@refs%2Fconvert%2Fparquet/plain_text/train/0000.parquet",
         FILE.format("0000.parquet", WHOLE.format("squad")), OF_DATA),
        ("hf://datasets/squad/plain_text/train-00000-of-00001.parquet",
         FILE.format("train-00000-of-00001.parquet", WHOLE.format("squad")), OF_DATA),
        ("hf://datasets/org/rows/data/train.parquet", FILE.format("train.parquet", "write the id org/rows"), OF_DATA),
        ("${DATA}/rows.jsonl", NO_VARIABLES, NO_VARIABLES),
        ("..\\data\\rows.jsonl", SLASHES, SLASHES),
        ("https://huggingface.co/spaces/a/b", NO_DATA, NO_MODEL),
        ("https://huggingface.co/blog/smollm3", NO_DATA, NO_MODEL),
        ("https://huggingface.co/datasets?sort=likes", NO_DATA, NO_MODEL),
        ("https://huggingface.co/", NO_DATA, NO_MODEL),
        ("https://example.org/rows.jsonl", HERE, HERE),
    ],
)  # fmt: skip
def test_an_address_is_told_to_be_an_id(name, as_rows, as_model):
    with pytest.raises(UserError) as rows:
        row_files(name, "sft.yaml:1")
    assert str(rows.value) == f"sft.yaml:1: expected a data file, got {name}, which is not there; {as_rows}"
    with pytest.raises(UserError) as model:
        model_folder(name, "sft.yaml:1")
    assert str(model.value) == f"sft.yaml:1: expected a model folder, got {name}, which is not there; {as_model}"


def test_the_base_of_a_recipe_without_a_model_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"got base, which is not there; write its folder or id as model of recipe"):
        model_folder("base", "sft.yaml:1", tmp_path)


def test_a_file_for_llama_cpp_is_no_model_to_train(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    with pytest.raises(UserError, match=r"which is for llama.cpp and cannot be trained; name the folder or the id"):
        model_folder(str(tmp_path / "m.gguf"), "sft.yaml:1")
