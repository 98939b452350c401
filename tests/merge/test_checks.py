"""Models that do not fit are refused before anything is written."""

import json
import shutil

import pytest
import torch
from helpers import ROOT, state_dict
from merge_helpers import PAIR, set_config
from safetensors.torch import load_file, save_file

from apo_soup.errors import UserError


def without_a_part(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"x": "model-00002.safetensors"}}))


def cut_off(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def other_words(folder):
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    a, b, *_ = vocabulary = content["model"]["vocab"]
    vocabulary[a], vocabulary[b] = vocabulary[b], vocabulary[a]
    file.write_text(json.dumps(content))


def other_template(folder):
    (folder / "chat_template.jinja").write_text("{{ messages }}")


def other_kind(folder):
    file = folder / "config.json"
    file.write_text(file.read_text().replace("SmolLM3ForCausalLM", "LlamaForCausalLM"))


def broken_config(folder):
    (folder / "config.json").write_text("{")


def other_heads(folder):
    set_config(folder, num_attention_heads=8, head_dim=4)


def other_theta(folder):
    set_config(folder, rope_parameters={"rope_type": "default", "rope_theta": 1000.0})


def other_end(folder):
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token": "<|endoftext|>"}))


def a_part_alone(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")


def an_index_that_promises_more(folder):
    (folder / "model.safetensors").rename(folder / "all.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"more": "all.safetensors"}}))


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (other_heads, "config.json: num_attention_heads: expected 4, as in"),
        (other_theta, "config.json: rope_theta: expected"),
        (other_end, "end-of-turn token: expected that of"),
        (a_part_alone, "with model-00001-of-00002.safetensors; name it model.safetensors, or put"),
        (an_index_that_promises_more, "expected tensor more in all.safetensors"),
        (without_a_part, "index.json: expected model-00002.safetensors beside it, got no such file"),
        (cut_off, "the file is cut off"),
        (other_words, "tokens: expected that of"),
        (other_template, "chat template: expected that of"),
        (other_kind, "got ['LlamaForCausalLM']"),
        (broken_config, "expected valid JSON, got"),
    ],
)
def test_a_member_that_does_not_fit_is_told_before_anything_is_written(run, merge_run, harm, told):
    harm(run / "apo" / "2")
    with pytest.raises(UserError) as error:
        merge_run()
    assert told in str(error.value)
    assert "apo/2" in str(error.value)
    assert not (run / "soup").exists()


@pytest.mark.parametrize(
    ("weights", "parameters", "told"),
    [
        ((0.9, -0.9), {}, r"expected a sum other than 0, .* got \[0\.9, -0\.9\]"),
        (
            (0.9, 0.2),
            {"normalize": False},
            r"expected a sum of 1 with normalize: false, .* which sum to 1\.1",
        ),
        (
            (0.9, float("nan")),
            {},
            r"models\.1\.parameters\.weight: expected a number, .*, got nan; write one",
        ),
    ],
)
def test_weights_that_make_no_average_are_refused(run, merge_run, weights, parameters, told):
    models = [{"model": m, "parameters": {"weight": w}} for m, w in zip(("soup", "mid"), weights, strict=True)]
    with pytest.raises(UserError, match=told):
        merge_run(merge={"merge_method": "linear", "dtype": "float32", "models": models, "parameters": parameters})


def test_a_full_disk_is_told_before_anything_is_written(run, merge_run, monkeypatch):
    from collections import namedtuple

    monkeypatch.setattr(shutil, "disk_usage", lambda place: namedtuple("Usage", "free")(1000))
    with pytest.raises(UserError, match=r"B free for the merge, got (1\.0 kB|10 B); free some"):
        merge_run()


@pytest.mark.parametrize("settings", [{}, {"merge_method": "slerp", "base_model": "mid", "parameters": {"t": 0.5}}])
def test_values_that_are_not_finite_stop_any_merge_before_it_writes(run, merge_run, settings):
    merge_run()
    file = run / "mid" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    shutil.rmtree(run / "merged")
    models = [{"model": m, **({} if settings else {"parameters": {"weight": 0.5}})} for m in ("soup", "mid")]
    merge = {"merge_method": "linear", "dtype": "float32", "models": models} | settings
    with pytest.raises(
        UserError, match=r"mid/model\.safetensors: tensor model\.norm\.weight: expected finite values, got NaN"
    ):
        merge_run(merge=merge)
    assert not (run / "merged").exists()
    assert not (run / ".merged.partial").exists()


def test_a_vocabulary_may_differ_where_the_merge_names_its_tokenizer(run, merge_run):
    file = run / "mid" / "model.safetensors"
    tensors = load_file(file)
    embedded = tensors["model.embed_tokens.weight"]
    tensors["model.embed_tokens.weight"] = torch.cat([embedded, torch.zeros(8, embedded.shape[1])])
    save_file(tensors, file, metadata={"format": "pt"})
    set_config(run / "mid", vocab_size=len(tensors["model.embed_tokens.weight"]))
    with pytest.raises(UserError, match=r"config\.json: vocab_size: expected"):
        merge_run(merge=PAIR)
    merge_run(merge=PAIR | {"tokenizer_source": "soup"})
    assert len(state_dict(run / "merged")["model.embed_tokens.weight"]) == len(embedded)


def test_a_chat_template_that_the_merge_names_excuses_no_other_tokens(run, merge_run):
    file = run / "mid" / "tokenizer.json"
    text = file.read_text(encoding="utf-8")
    other_words(run / "mid")
    for chosen in ({}, {"chat_template": "chatml"}):
        with pytest.raises(UserError, match=r"tokens: expected that of .* key tokenizer_source"):
            merge_run(merge=PAIR | chosen)
    file.write_text(text, encoding="utf-8")
    (run / "mid" / "chat_template.jinja").write_text("{{ messages }}")
    with pytest.raises(UserError, match=r"chat template: expected that of .* key chat_template"):
        merge_run(merge=PAIR)
    merge_run(merge=PAIR | {"chat_template": "chatml"})
    assert "<|im_start|>" in (run / "merged" / "chat_template.jinja").read_text()


def test_vocabularies_without_tokenizer_json_are_compared_by_their_files(run, merge_run):
    for number in "123":
        (run / "apo" / number / "tokenizer.model").write_bytes(b"sentences" if number == "3" else b"pieces")
    (run / "apo" / "2" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match=r"apo/3: tokens \(tokenizer\.model\): expected that of .*apo/1, got another"):
        merge_run()
    (run / "apo" / "3" / "tokenizer.model").write_bytes(b"pieces")
    merge_run()


def test_a_first_model_without_a_tokenizer_is_refused(run, merge_run):
    for file in ("tokenizer.json", "tokenizer_config.json"):
        for number in "123":
            (run / "apo" / number / file).unlink()
    with pytest.raises(UserError, match=r"apo/1: expected one of tokenizer\.json"):
        merge_run()
    assert not (run / "soup").exists()


@pytest.fixture
def grown(run):
    """The run, with a token more in every member than in mid."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from apo_soup.training.resized import add_rows

    for member in sorted((run / "apo").iterdir()):
        model, tokenizer = AutoModelForCausalLM.from_pretrained(member), AutoTokenizer.from_pretrained(member)
        tokenizer.add_tokens(["<cite>"])
        add_rows(model, len(tokenizer), 8)
        model.save_pretrained(member)
        tokenizer.save_pretrained(member)
    return run


def test_a_token_that_one_model_lacks_is_named_with_both_cures(grown, merge_run):
    with pytest.raises(UserError) as refused:
        merge_run()
    assert str(refused.value).endswith(
        f"{grown}/mid: expected the tokens of {grown}/soup, got 1 fewer ('<cite>'); give add_tokens and "
        f"resize_embeddings in the file that makes {grown}/mid too, or say which tokens the result has with mergekit's "
        "key tokenizer_source"
    )
    assert not (grown / "merged").exists()


def test_a_sweep_averages_no_rows_of_tokens_that_one_model_lacks(grown, merge_file):
    """Row by row, and their numbers of rows may be equal where embeddings are larger than the tokenizer."""
    from apo_soup.config.load import load
    from merge.sweep.walk import sweep_plan

    suite = ROOT / "recipes" / "tiny" / "eval.yaml"
    recipe = load(merge_file(sweep={"models": ["apo/1", "mid"], "eval": str(suite)}), "merge")
    with pytest.raises(UserError, match=r"sweep\.models: .*/mid: expected the tokens of .*/apo/1, got 1 fewer"):
        sweep_plan(recipe)


@pytest.mark.parametrize("source", ["union", "soup"])
def test_a_row_that_one_model_has_comes_from_that_one(grown, merge_run, source):
    merge_run(merge=PAIR | {"tokenizer_source": source})
    soup, mid, merged = (state_dict(grown / name)["model.embed_tokens.weight"] for name in ("soup", "mid", "merged"))
    assert merged.shape == (1025, 32)
    torch.testing.assert_close(merged[:1024], 0.9 * soup[:1024] + 0.1 * mid, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(merged[1024], soup[1024], atol=1e-8, rtol=1e-6)
    config = json.loads((grown / "merged" / "config.json").read_text())
    assert (config["vocab_size"], config["tie_word_embeddings"]) == (1025, True)


def test_models_of_the_same_tokens_and_other_sizes_are_told_to_be_resized_alike(grown, merge_run):
    shutil.rmtree(grown / "mid")
    shutil.copytree(grown / "apo" / "1", grown / "mid")
    from transformers import AutoModelForCausalLM

    from apo_soup.training.resized import add_rows

    model = AutoModelForCausalLM.from_pretrained(grown / "mid")
    add_rows(model, 1025, 64)
    model.save_pretrained(grown / "mid")
    with pytest.raises(
        UserError, match=r"vocab_size: expected 1032, .* got 1088; resize both alike, or name the result"
    ):
        merge_run()


@pytest.mark.parametrize(
    ("models", "told"),
    [
        (["soup", "merged"], r"merge\.models\.1\.model: expected a model that is there before, got merged, which"),
        (["soup", "SELF"], r"merge\.models\.1\.model: expected a model that is there before the merge, got /"),
        (["mid", "mid"], r"merge\.models\.1: expected every model once, got .*mid'? again; name it once"),
    ],
)
def test_a_merge_of_itself_or_of_one_model_twice_is_refused(run, merge_file, models, told):
    from apo_soup.config.load import load
    from merge.plan import merge_plan

    (run / "merged").mkdir()
    entries = [{"model": model.replace("SELF", str(run / "merged")), "parameters": {"weight": 0.5}} for model in models]
    with pytest.raises(UserError, match=told):
        merge_plan(load(merge_file(merge=PAIR | {"models": entries}), "merge"), "merged")


def test_a_soup_has_no_member_twice(run, merge_file):
    from apo_soup.config.load import load
    from merge.plan import merge_plan

    for members, told in (
        (["1", "1"], r"soup\.members\.1: expected every member once, got 1 again; list it once"),
        (["1", str(run / "apo" / "1")], r"soup\.members.*: expected every model once, got .*apo/1 again"),
        (["1", str(run / "soup")], "got the soup"),
    ):
        shutil.copytree(run / "mid", run / "soup", dirs_exist_ok=True)
        with pytest.raises(UserError, match=told):
            merge_plan(load(merge_file(soup={"members": members}), "merge"), "soup")


def test_scaled_positions_and_plain_ones_are_not_averaged(run, merge_run):
    yarn = {"rope_type": "yarn", "rope_theta": 5e4, "factor": 4.0, "original_max_position_embeddings": 512}
    set_config(run / "apo" / "2", rope_parameters=yarn)
    with pytest.raises(UserError, match=r"apo/2/config\.json: rope_type: expected default, as in .*, got yarn; merge"):
        merge_run()


def test_other_limits_of_positions_are_told(run, merge_run, capsys):
    set_config(run / "apo" / "2", max_position_embeddings=77)
    merge_run()
    assert f"and 77 in {run}/apo/2" in capsys.readouterr().out


def test_what_else_the_configurations_say_is_refused_or_told(run, merge_run, capsys):
    set_config(run / "apo" / "2", window_scale=3)
    set_config(run / "apo" / "1", window_scale=2)
    merge_run()
    assert f"note: {run.parent}/merge.yaml:2: soup: window_scale is 2, as in {run}/apo/1, and 3 in {run}/apo/2" in (
        capsys.readouterr().out
    )
    for number, scale in (("1", 1.0), ("3", 8.0)):
        set_config(run / "apo" / number, logits_scaling=scale)
    with pytest.raises(UserError, match=r"apo/3/config\.json: logits_scaling: expected 1\.0, as in .*, got 8\.0"):
        merge_run()


def test_a_key_that_one_model_leaves_out_is_no_excuse(run, merge_run):
    """It has the value of its class there, which is another one."""
    file = run / "apo" / "2" / "config.json"
    config = json.loads(file.read_text())
    set_config(run / "apo" / "1", rms_norm_eps=1e-3)
    file.write_text(json.dumps({key: value for key, value in config.items() if key != "rms_norm_eps"}))
    with pytest.raises(
        UserError, match=r"apo/2/config\.json: rms_norm_eps: expected 0\.001, as in .*apo/1/config\.json"
    ):
        merge_run()


def test_a_check_foresees_what_a_merge_takes(run, merge_file):
    """A model whose head became its own, and one that ties it: the merge gives both one."""
    from apo_soup.config.load import load
    from merge.foreseen import merge_problems

    shutil.copytree(run / "apo" / "1", run / "soup")
    file = run / "soup" / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"lm_head.weight": 2 * tensors["model.embed_tokens.weight"]}, file, {"format": "pt"})
    set_config(run / "soup", tie_word_embeddings=False)
    recipe = load(merge_file(), "merge")
    assert list(merge_problems(recipe, lambda model: False)) == []
    set_config(run / "mid", hidden_act="gelu")
    set_config(run / "mid", tie_word_embeddings=False)
    assert "hidden_act: expected silu" in "".join(merge_problems(recipe, lambda model: False))


def test_of_several_named_templates_that_of_conversations_is_compared(run, merge_run):
    """As older tokenizers store them, in tokenizer_config.json."""
    file, jinja = (run / "mid" / name for name in ("tokenizer_config.json", "chat_template.jinja"))
    settings, text = json.loads(file.read_text()), jinja.read_text()
    jinja.unlink()
    for default in (text, "{{ messages }}"):
        named = [{"name": "tool_use", "template": "{{ tools }}"}, {"name": "default", "template": default}]
        file.write_text(json.dumps(settings | {"chat_template": named}))
        if default == text:
            merge_run(merge=PAIR)
    with pytest.raises(UserError, match=r"mid: chat template: expected that of .* key chat_template"):
        merge_run(merge=PAIR)


def test_a_merge_whose_first_model_has_no_template_is_told(run, merge_run, capsys):
    """Most base models have none, and those trained from them have one."""
    (run / "mid" / "chat_template.jinja").unlink()
    merge = PAIR | {"models": PAIR["models"][::-1]}
    merge_run(merge=merge)
    told = (
        f"merge: the merged folder has no chat template, and {run}/soup has one; write chat_template: auto to take it"
    )
    assert told in capsys.readouterr().out
    merge_run(merge=merge | {"chat_template": "auto"})
    assert "no chat template" not in capsys.readouterr().out
    made, known = ((run / name / "chat_template.jinja").read_text().strip() for name in ("merged", "soup"))
    assert made == known


def test_copies_of_one_model_are_told(run, merge_file):
    from apo_soup.config.load import load
    from merge.plan import merge_plan, same_models

    again = run / "apo" / "1-again"
    shutil.copytree(run / "apo" / "1", again)
    soup = merge_plan(load(merge_file(soup={"members": ["1", "2", str(again)]}), "merge"), "soup")
    told = list(same_models(soup.stage.inputs))
    assert told == ["apo/1 and apo/1-again are copies of one model, which counts 2 times"]
