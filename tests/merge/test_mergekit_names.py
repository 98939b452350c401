"""The models that a merge file names: stages, folders beside the file or in the working directory, ids of the Hub."""

import json

import pytest

from apo_soup.config.load import load
from apo_soup.config.mergekit import OWN_OPTIONS, MergekitKeys, MergekitOptions
from apo_soup.errors import UserError
from merge.mergekit_names import MODEL_KEYS, named_models, resolved_model, with_models


def test_a_model_is_a_stage_a_folder_beside_the_file_or_an_id_of_the_hub(run, merge_file, tmp_path, monkeypatch):
    recipe = load(merge_file(), "merge")
    here = tmp_path / "here"
    (here / "there").mkdir(parents=True)
    (tmp_path / "beside").mkdir()
    monkeypatch.chdir(here)
    for model, expected in {
        "soup": str(run / "soup"),
        "apo/2": str(run / "apo" / "2"),
        "beside": str(tmp_path / "beside"),
        "there": str(here / "there"),
        "owner/name@v1": "owner/name@v1",
        "owner/name+there": f"owner/name+{here / 'there'}",
        f"{here}/there/+there": f"{here / 'there'}+{here / 'there'}",
        "mid+apo/1": f"{run / 'mid'}+{run / 'apo' / '1'}",
    }.items():
        assert resolved_model(model, recipe, "merge") == expected
    with pytest.raises(UserError, match=r"merge\.yaml:\d+: merge: expected a stage, .* got a/b/c \(looked for .* and "):
        resolved_model("a/b/c", recipe, "merge")


def test_an_adapter_alone_is_named_with_its_base_and_both_spellings_are_one_model(run, merge_file):
    from merge.plan import mix_config

    adapter = run / "apo" / "2" / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(run / "mid")}))
    recipe = load(merge_file(), "merge")
    assert resolved_model("apo/2/adapter", recipe, "merge") == f"{run / 'mid'}+{adapter}"
    models = [
        {"model": name, "parameters": {"weight": 0.5}} for name in (f"{adapter}/", f"mid+{run}/apo/../apo/2/adapter")
    ]
    with pytest.raises(
        UserError, match=r"merge\.models\.1: expected every model once, got .*adapter again; name it once"
    ):
        mix_config(load(merge_file(merge={"merge_method": "linear", "models": models}), "merge"))


def test_base_is_the_model_of_the_recipe_and_a_word_of_tokenizers(run, merge_file, tmp_path):
    """What `apo-soup new --pairs` writes, where preference training begins with a person's model."""
    from merge.plan import mix_config

    shares = {"soup": {"weight": 0.9}, "base": {"weight": 0.1}}
    models = [{"model": name, "parameters": share} for name, share in shares.items()]
    file = merge_file(merge={"merge_method": "linear", "models": models, "tokenizer_source": "base"})
    (tmp_path / "own").mkdir()
    (file.parent / "recipe.yaml").write_text("name: mine\nmodel: own\n")
    config = mix_config(load(file, "merge"))
    assert [entry.model for entry in config.models] == [str(run / "soup"), str(tmp_path / "own")]
    assert config.tokenizer_source == "base"
    (file.parent / "recipe.yaml").unlink()
    assert resolved_model("base", load(file, "merge"), "merge") == str(run / "base")


def test_models_are_named_wherever_mergekit_has_them():
    config = MergekitKeys(
        merge_method="linear",
        base_model="a",
        tokenizer_source="union",
        slices=[{"sources": [{"model": "b", "layer_range": [0, 4]}, {"model": "a"}]}],
        tokenizer={"source": "c", "tokens": {"<x>": {"source": {"kind": "model_token", "model": "d"}}}},
    )
    assert named_models(config) == {
        "a": "merge.base_model",
        "b": "merge.slices.0.sources.0.model",
        "c": "merge.tokenizer.source",
        "d": "merge.tokenizer.tokens.<x>.source.model",
    }
    changed = with_models(config, str.upper)
    assert list(named_models(changed)) == ["A", "B", "C", "D"], "in the order of the file, which numbers the inputs"
    assert changed.tokenizer_source == "union"
    assert changed.slices[0]["sources"][0]["layer_range"] == [0, 4]


def test_a_model_written_as_a_mapping_is_its_name(run, merge_file):
    from merge.plan import mix_config

    models = [
        {"model": {"model": {"path": str(run / "mid")}}, "parameters": {"weight": 0.5}},
        {
            "model": {"model": {"path": "owner/name", "revision": "v1"}, "lora": "owner/adapter"},
            "parameters": {"weight": 0.3},
        },
        {"model": {"path": "owner/other", "revision": "main"}, "parameters": {"weight": 0.2}},
    ]
    config = mix_config(load(merge_file(merge={"merge_method": "linear", "models": models}), "merge"))
    names = [str(run / "mid"), "owner/name@v1+owner/adapter", "owner/other@main"]
    assert [entry.model for entry in config.models] == names
    models[0]["model"]["override_architecture"] = "LlamaForCausalLM"
    with pytest.raises(UserError, match=r"merge\.models\.0\.model: expected a folder or OWNER/NAME@REVISION, .* got {"):
        mix_config(load(merge_file(merge={"merge_method": "linear", "models": models}), "merge"))


def test_the_keys_and_options_are_those_of_the_installed_mergekit():
    """A key of a new release that names a model would otherwise be taken for a path of its own, or a setting."""
    from mergekit.config import (
        ConditionalParameter,
        InputModelDefinition,
        InputSliceDefinition,
        MergeConfiguration,
        OutputModuleDefinition,
        OutputSliceDefinition,
    )
    from mergekit.options import MergeOptions
    from mergekit.tokenizer.config import ModelTokenEmbedding, TokenEmbeddingConfig, TokenizerConfig

    schema = (
        ConditionalParameter, InputModelDefinition, InputSliceDefinition, MergeConfiguration, ModelTokenEmbedding,
        OutputModuleDefinition, OutputSliceDefinition, TokenEmbeddingConfig, TokenizerConfig,
    )  # fmt: skip
    fields = [(name, str(field.annotation)) for kind in schema for name, field in kind.model_fields.items()]
    assert (
        {name for name, kind in fields if "ModelReference" in kind} <= set(MODEL_KEYS) <= {name for name, _ in fields}
    )
    assert set(MergekitKeys.model_fields) <= set(MergeConfiguration.model_fields)
    assert {*OWN_OPTIONS, *MergekitOptions.model_fields} <= set(MergeOptions.model_fields)
