"""The tokenizer that will train: prepared before the stages upstream have run, rows are those that the run uses."""

import json
import shutil

import pytest
from data_helpers import ROWS, prepared
from helpers import TRAINING, preference
from programs import program, run_ok

from apo_soup.config.load import load
from apo_soup.data.prepare import prepare_mixture
from apo_soup.errors import UserError
from apo_soup.models.recipe_tokenizer import recipe_tokenizer
from apo_soup.models.tokenizer import tokenizer_text

TEMPLATE = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role -}}\r\n{{- m.content + '<|im_end|>\n' -}}{%- endfor -%}\r\n"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant' -}}\r\n{%- endif -%}\r\n"
)


@pytest.fixture
def plain_end_model(tiny_model, tmp_path):
    """A model whose end of turn is no special token yet, with an end of text as end and padding, as bases have them."""
    folder = tmp_path / "base"
    shutil.copytree(tiny_model, folder)
    tokens = json.loads((folder / "tokenizer.json").read_text())
    for token in tokens["added_tokens"]:
        token["special"] = token["content"] != "<|im_end|>"
    (folder / "tokenizer.json").write_text(json.dumps(tokens))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings |= {"eos_token": "<|endoftext|>"}
    settings.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").unlink()
    return folder


@pytest.fixture
def recipe(plain_end_model, write_rows, write_recipe, tmp_path):
    """mid.yaml, sft.yaml and apo.yaml of one run; gives their folder. mid.yaml alone has template and end."""
    training = TRAINING | {"max_steps": 1, "save_strategy": "no", "max_length": 96}
    rows = {"datasets": [{"id": str(write_rows("rows.jsonl", ROWS))}], "seed": 0}
    pairs = [preference(f"What is {n}?", f"It is {n}", f"Not {n}") for n in range(12)]
    pair_rows = {"datasets": [{"id": str(write_rows("pairs.jsonl", pairs))}], "seed": 0}
    supervised = training | {"assistant_only_loss": True, "packing": True, "dataset_mixture": rows}
    run = tmp_path / "run"
    mid = {"model_name_or_path": str(plain_end_model), "output_dir": str(run / "mid"), "chat_template": TEMPLATE}
    write_recipe("mid.yaml", supervised | mid | {"eos_token": "<|im_end|>"})
    write_recipe("sft.yaml", supervised | {"model_name_or_path": str(run / "mid"), "output_dir": str(run / "sft")})
    apo = {"model_name_or_path": str(run / "sft"), "output_dir": str(run / "apo"), "dataset_mixture": pair_rows}
    write_recipe("apo.yaml", training | apo)
    return tmp_path


def test_rows_prepared_before_the_model_is_there_are_those_that_the_run_finds(recipe):
    """The base's tokenizer with the template on it would hash otherwise: saving marks the end of turn as special."""
    before = prepared(recipe / "sft.yaml")[0]
    output = run_ok("-m", "apo_soup", "prepare", "--config", recipe / "apo.yaml")
    of_apo = output.splitlines()[-1]
    told = f"{recipe}/run/sft is not there yet; taken are the tokenizer of {recipe}/base and chat template of "
    assert f"{told}{recipe}/mid.yaml:" in output
    run_ok("-m", "sft", "--config", recipe / "mid.yaml")
    assert str(prepared(recipe / "apo.yaml")[0]) == of_apo, "from mid's folder on"
    output = run_ok("-m", "sft", "--config", recipe / "sft.yaml")
    assert f"prepared rows found in {before}" in output
    apo = load(recipe / "apo.yaml", "apo")
    notes = []
    tokenizer = recipe_tokenizer(apo, notes.append)
    assert str(prepare_mixture(apo, tokenizer, notes.append)) == of_apo, "from sft's folder on"
    assert notes == [f"prepared rows found in {of_apo}; they passed the mask check when they were made"]


def test_the_template_that_will_train_is_shown(recipe):
    output = run_ok("-m", "apo_soup", "preview", "--config", recipe / "apo.yaml", "--rows", "1")
    assert "<|im_start|>userWhat is 0?<|im_end|>\n<|im_start|>assistant«»\nchosen (6 tokens)" in output
    output = run_ok(
        "-m", "apo_soup", "preview", "--config", recipe / "sft.yaml", "--rows", "1", "--chat_template", "apo-soup"
    )
    assert "Reasoning Mode: /no_think" in output
    assert "chat template of " in output
    assert "sft.yaml (command line)" in output


def test_what_a_stage_upstream_lays_over_a_tokenizer_is_what_it_saves(recipe):
    """Saved and loaded once more, the tokenizer stays as it is."""
    sft, apo = load(recipe / "sft.yaml", "sft"), load(recipe / "apo.yaml", "apo")
    one, two = recipe_tokenizer(sft), recipe_tokenizer(apo)
    assert tokenizer_text(one) == tokenizer_text(two)
    assert one.chat_template == two.chat_template == TEMPLATE.replace("\r\n", "\n")
    assert (one.eos_token, one.pad_token) == ("<|im_end|>", "<|im_end|>")


def test_a_model_that_nothing_makes_is_one_sentence(recipe):
    (recipe / "mid.yaml").unlink()
    result = program("-m", "apo_soup", "preview", "--config", recipe / "sft.yaml")
    assert result.returncode == 2
    assert f"expected a model folder, got {recipe}/run/mid, which is not there; run the stage" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_template_that_is_nowhere_on_the_way_is_asked_for(recipe):
    text = (recipe / "mid.yaml").read_text()
    start, end = text.index("chat_template:"), text.index("eos_token:")
    (recipe / "mid.yaml").write_text(text[:start] + text[end:])
    result = program("-m", "apo_soup", "prepare", "--config", recipe / "apo.yaml")
    assert result.returncode == 2
    assert "mid.yaml" in result.stderr
    assert "without one; give chat_template: apo-soup" in result.stderr


def test_new_tokens_must_fit_the_model_that_the_files_upstream_will_make(recipe):
    """The base has 1,024 rows: sft's token fits where sft or mid resizes, and there alone."""

    def ids(name, *words):
        return len(recipe_tokenizer(load(recipe / f"{name}.yaml", "sft", list(words))).get_vocab())

    with pytest.raises(UserError, match=r"add_tokens: expected a tokenizer of at most 1,024 ids"):
        ids("sft", "--add_tokens", "[<cite>]")
    assert ids("sft", "--add_tokens", "[<cite>]", "--resize_embeddings", "true") == 1025
    mid = recipe / "mid.yaml"
    written = mid.read_text()
    mid.write_text(written + "\nadd_tokens: [<cite>]\n")
    with pytest.raises(UserError, match=r"mid\.yaml:\d+: add_tokens: expected a tokenizer of at most 1,024 ids"):
        ids("sft")
    mid.write_text(written + "\nadd_tokens: [<cite>]\nresize_embeddings: true\nresize_embeddings_multiple_of: 8\n")
    assert ids("sft") == 1025
    assert ids("sft", "--add_tokens", "[<a>, <b>]") == 1027, "mid has made 1,032 rows"
