"""What a configuration says where its file says nothing, or says it as older releases did."""

import json

import pytest

from apo_soup.models.whole_config import compared_configs, whole_config

LLAMA = {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4}


@pytest.fixture
def folder(tmp_path):
    """Makes a folder with a configuration alone."""

    def make(name, **config):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        return tmp_path / name

    return make


def test_a_key_that_is_left_out_has_its_classs_value(folder):
    whole = whole_config(folder("a", **LLAMA, rope_theta=5e5, rope_scaling={"type": "linear", "factor": 2.0}), "")
    assert (whole["rms_norm_eps"], whole["hidden_act"]) == (1e-6, "silu")
    rope = whole["rope_parameters"]
    assert (rope["rope_theta"], rope["rope_type"], rope["factor"]) == (5e5, "linear", 2.0)


@pytest.mark.parametrize("changes", [{"model_type": "of_its_own"}, {"rope_scaling": {"rope_type": "longrope"}}])
def test_a_file_that_no_class_reads_is_taken_as_it_is(folder, changes):
    assert whole_config(folder("a", **LLAMA | changes), "") == LLAMA | changes


def test_files_that_say_the_same_are_compared_as_they_are(folder):
    one, other = folder("one", **LLAMA, bos_token_id=1), folder("other", **LLAMA, bos_token_id=2)
    files = compared_configs(one, other, "", lambda key: not key.endswith("_token_id"))
    assert files == (LLAMA | {"bos_token_id": 1}, LLAMA | {"bos_token_id": 2})
    assert "rms_norm_eps" in compared_configs(one, other, "", lambda key: True)[0]
