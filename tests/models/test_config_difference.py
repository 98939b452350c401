"""Keys of configurations by which equal weights compute different things."""

import json

import pytest

from apo_soup.models.config_difference import config_difference, other_settings

LLAMA = {"model_type": "llama", "hidden_size": 32, "num_attention_heads": 4}
SMOLLM = LLAMA | {"model_type": "smollm3", "num_hidden_layers": 4}
GEMMA = {"model_type": "gemma3_text", "num_hidden_layers": 2}
OLDER = {"rope_theta": 5e5, "rope_local_base_freq": 1e4, "rope_scaling": None}
OWN = {"model_type": "of_its_own"}


@pytest.fixture
def folders(tmp_path):
    """Makes two folders, each with a configuration alone."""

    def make(*configs):
        made = []
        for number, config in enumerate(configs):
            (tmp_path / str(number)).mkdir()
            (tmp_path / str(number) / "config.json").write_text(json.dumps(config))
            made.append(tmp_path / str(number))
        return made

    return make


@pytest.mark.parametrize(
    ("one", "other", "found"),
    [
        (LLAMA | {"rms_norm_eps": 1e-3}, LLAMA, ("rms_norm_eps", 1e-3, 1e-6)),
        (LLAMA | {"rms_norm_eps": 1e-6}, LLAMA, None),
        (LLAMA, LLAMA | {"hidden_act": "gelu"}, ("hidden_act", "silu", "gelu")),
        (LLAMA | {"rope_theta": 5e5}, LLAMA, ("rope_theta", 5e5, 1e4)),
        (LLAMA | {"rope_theta": 1e4}, LLAMA, None),
        (LLAMA | {"head_dim": None}, LLAMA | {"head_dim": 8}, None),
        (SMOLLM | {"no_rope_layer_interval": 2}, SMOLLM, ("no_rope_layers", [1, 0, 1, 0], [1, 1, 1, 0])),
        (GEMMA | OLDER, GEMMA, ("full_attention.rope_theta", 5e5, 1e6)),
        (GEMMA | OLDER | {"rope_theta": 1e6}, GEMMA, None),
        (
            GEMMA | {"attn_logit_softcapping": None},
            GEMMA | {"attn_logit_softcapping": 50.0},
            ("attn_logit_softcapping", None, 50.0),
        ),
        (
            OWN | {"text_config": {"rope_theta": 1e4}},
            OWN | {"text_config": {"rope_theta": 5e5}},
            ("text_config.rope_theta", 1e4, 5e5),
        ),
        (OWN | {"vision_config": {"hidden_act": "a"}}, OWN | {"vision_config": {"depth": 1}}, None),
        (LLAMA | {"dtype": "float32", "eos_token_id": 1}, LLAMA | {"eos_token_id": 2}, None),
    ],
)
def test_what_weights_compute_is_compared_whichever_way_it_is_written(folders, one, other, found):
    difference = config_difference(*folders(one, other), "FILE")
    assert (difference and difference[:3]) == found


def test_what_else_differs_is_found_and_what_is_aside_is_not(folders):
    one = LLAMA | {"max_position_embeddings": 64, "vocab_size": 8, "windows": [1, 2], "shift": None}
    both = folders(one, LLAMA | {"max_position_embeddings": 32, "vocab_size": 9, "windows": [1], "shift": 3})
    assert other_settings(*both, "FILE") == [
        ("max_position_embeddings", 64, 32),
        ("shift", None, 3),
        ("windows", [1, 2], [1]),
    ]
    assert config_difference(*both, "FILE")[3].startswith("resize both alike")
    assert config_difference(*both, "FILE", {"vocab_size"}) is None
