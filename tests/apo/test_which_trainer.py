"""Which trainer runs a recipe: settings and models that packing would compute otherwise go to the stock one."""

from typing import get_args

import pytest
import torch
from apo_helpers import facts, tiny_model_of, train_members

from apo.losses import PAIR_LOSSES
from apo.scoring import add_scoring
from apo.which_trainer import STOCK_OPTIONS, NotPackable, check_packed_logprobs
from apo_soup.config.apo import ApoFile
from apo_soup.config.loss_keys import COUPLING
from apo_soup.config.shared_rows import UNPACKED


def check(model):
    """Try a model with SDPA on the CPU."""
    add_scoring(model)
    check_packed_logprobs(model, "sdpa", "cpu", 300, exact=True)


def test_a_model_that_cannot_be_packed_is_found_before_it_trains():
    """Llama's answers are the same packed and alone; those of a recurrent model, of ALiBi, of a window that our mask
    would widen, and of a head with a layer of its own are not.
    """
    from transformers import (
        BertConfig,
        BertLMHeadModel,
        BloomConfig,
        BloomForCausalLM,
        MambaConfig,
        MambaForCausalLM,
        MistralConfig,
        MistralForCausalLM,
    )

    with torch.no_grad():
        check(tiny_model_of("llama"))
        torch.manual_seed(0)
        small = {"vocab_size": 300, "hidden_size": 32, "initializer_range": 0.3}
        heads = {"num_hidden_layers": 2, "num_attention_heads": 4}
        for model in (
            MambaForCausalLM(MambaConfig(**small, num_hidden_layers=2, state_size=8)),
            BloomForCausalLM(BloomConfig(**small, n_layer=2, n_head=4)),
            MistralForCausalLM(
                MistralConfig(**small, **heads, intermediate_size=64, num_key_value_heads=2, sliding_window=4)
            ),
            BertLMHeadModel(BertConfig(**small, **heads, intermediate_size=64, is_decoder=True)),
        ):
            with pytest.raises(NotPackable):
                check(model.eval())


def test_only_what_the_model_itself_raises_is_a_word_on_the_model():
    def broken(*args, **kwargs):
        raise ValueError("no such argument")

    model = tiny_model_of("llama")
    add_scoring(model)
    with torch.no_grad(), pytest.raises(NotPackable, match=r"does not take packed pairs \(no such argument\)"):
        check_packed_logprobs(broken, "sdpa", "cpu", 300, exact=True)
    with torch.no_grad(), pytest.raises(RuntimeError, match="device type"):
        check_packed_logprobs(model, "sdpa", "nowhere", 300, exact=True)


def test_a_fault_of_our_scoring_is_no_word_on_the_model(monkeypatch):
    def faulty(*tensors):
        raise ValueError("too many values to unpack")

    model = tiny_model_of("llama")
    add_scoring(model)
    monkeypatch.setattr("apo_soup.models.vocabulary_blocks.read_tile", faulty)
    with torch.no_grad(), pytest.raises(ValueError, match="too many values"):
        check_packed_logprobs(model, "sdpa", "cpu", 300, exact=True)
    model.get_output_embeddings = lambda: torch.nn.Linear(16, 300)
    with torch.no_grad(), pytest.raises(NotPackable, match=r"\(hidden states of \d+ for an LM head of 16\)"):
        check_packed_logprobs(model, "sdpa", "cpu", 300, exact=True)


def test_a_model_the_probe_refuses_trains_on_the_stock_path(packed_recipe, tokenizer, tmp_path, capsys):
    from transformers import MambaConfig, MambaForCausalLM

    torch.manual_seed(0)
    ids = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id, "bos_token_id": None}
    config = MambaConfig(
        vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=2, state_size=8, initializer_range=0.3, **ids
    )
    folder = tmp_path / "mamba"
    MambaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    path, output = packed_recipe(model_name_or_path=str(folder), max_steps=1, attn_implementation=None)
    train_members(path)
    assert "apo/1: pairs run on the stock trainer, because of a model" in capsys.readouterr().out
    assert "reference_passes" not in facts(output)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sliding_window": 8}, "a model with sliding-window attention"),
        ({"layer_types": ["full_attention", "conv"]}, "a model with conv layers"),
        ({"attention_dropout": 0.1}, "a model with attention_dropout"),
        ({"sliding_window": 8, "use_sliding_window": False}, None),
        ({"final_logit_softcapping": 30.0}, "a model with final_logit_softcapping"),
    ],
)
def test_configurations_that_packing_would_compute_otherwise_are_known(changes, reason):
    from types import SimpleNamespace

    from apo.packable_models import model_reason

    assert model_reason(SimpleNamespace(**changes)) == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"loss_type": "aot"}, "loss_type aot"),
        ({"loss_type": ["apo_zero", "sft"], "loss_weights": [1.0, 0.1]}, "loss_type sft"),
        ({"ld_alpha": 0.5}, "ld_alpha"),
        ({"loss_type": "sigmoid", "f_divergence_type": "js_divergence"}, "f_divergence_type"),
        ({"use_weighting": True}, "use_weighting"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha"),
        ({"accelerator_config": {"split_batches": True}}, "accelerator_config.split_batches"),
    ],
)
def test_what_the_packed_path_does_not_know_runs_on_the_stock_one_and_says_so(packed_recipe, capsys, change, reason):
    path, folder = packed_recipe(max_steps=1, **change)
    train_members(path)
    assert f"apo/1: pairs run on the stock trainer, because of {reason}\n" in capsys.readouterr().out
    assert "reference_passes" not in facts(folder)


def test_parallelism_that_accelerates_own_file_gives_runs_on_the_stock_trainer(packed_recipe, capsys, monkeypatch):
    """Its launcher gives it to processes by their environment, and the arguments do not have it."""
    monkeypatch.setenv("ACCELERATE_USE_PARALLELISM_CONFIG", "true")
    path, _ = packed_recipe(max_steps=1)
    train_members(path)
    assert "apo/1: pairs run on the stock trainer, because of parallelism_config\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"disable_dropout": False}, "disable_dropout"),
        ({"metric_for_best_model": "eval_mean_token_accuracy"}, "metric_for_best_model"),
        ({"optim": "galore_adamw_layerwise"}, "optim"),
        ({}, None),
        ({"metric_for_best_model": "eval_rewards/accuracies"}, None),
    ],
)
def test_settings_that_packing_would_change_go_to_stock(changes, reason, tmp_path):
    from transformers import LlamaConfig
    from trl import DPOConfig

    from apo.which_trainer import stock_reason

    arguments = DPOConfig(output_dir=str(tmp_path), loss_type="apo_zero", use_cpu=True, bf16=False)
    for name, value in changes.items():
        setattr(arguments, name, value)
    assert stock_reason(arguments, LlamaConfig()) == reason


def test_positions_that_depend_on_the_longest_of_a_row_go_to_stock():
    from transformers import BloomConfig, LlamaConfig, PreTrainedConfig

    from apo.packable_models import model_reason
    from apo.which_trainer import NotPackable, packed_attention

    rope = {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}
    assert "dynamic positions" in model_reason(LlamaConfig(rope_parameters=rope))
    assert model_reason(LlamaConfig()) is None
    assert packed_attention(LlamaConfig(), None, on_gpu=True) == "flex_attention"
    assert packed_attention(LlamaConfig(), "sdpa", on_gpu=True) == "sdpa_of_pairs"
    assert packed_attention(LlamaConfig(), None, on_gpu=False) == "sdpa_of_pairs"
    assert packed_attention(PreTrainedConfig(), None, on_gpu=False) == "sdpa"  # of a model whose code comes with it
    with pytest.raises(NotPackable, match="BloomForCausalLM, which has no"):
        packed_attention(BloomConfig(), None, on_gpu=False)


@pytest.mark.parametrize(
    ("loading", "told"),
    [
        ({"sliding_window": 4, "layer_types": ["sliding_attention"] * 4}, "a model with sliding-window attention"),
        ({"attention_dropout": 0.5}, "a model with attention_dropout"),
    ],
    ids=["window", "dropout"],
)
def test_what_a_model_is_loaded_with_counts_as_its_own_configuration(packed_recipe, capsys, loading, told):
    path, _ = packed_recipe(max_steps=1, model_init_kwargs=loading)
    train_members(path)
    assert f"apo/1: pairs run on the stock trainer, because of {told}\n" in capsys.readouterr().out


def test_the_options_looked_at_are_those_of_the_installed_libraries():
    """One that a release renames would be read as not given."""
    from dataclasses import fields

    from transformers import CONFIG_MAPPING
    from transformers.trainer_pt_utils import AcceleratorConfig
    from trl import DPOConfig

    from apo.packable_models import RESCALES
    from apo.train import WITHOUT_EFFECT
    from apo.which_trainer import ACCELERATOR_OPTIONS

    assert {*STOCK_OPTIONS, *WITHOUT_EFFECT} <= {field.name for field in fields(DPOConfig)}
    usual = {field.name: field.default for field in fields(AcceleratorConfig)}
    assert {name: usual[name] for name in ACCELERATOR_OPTIONS} == ACCELERATOR_OPTIONS
    rescaling = {"gemma2": 0, "cohere": 1, "granite": 2, "falcon_h1": 3, "muse_spark": 4}
    for kind, number in rescaling.items():
        assert hasattr(CONFIG_MAPPING[kind]().get_text_config(), RESCALES[number]), kind


def test_processes_share_no_rows_of_pairs_that_only_the_stock_trainer_takes():
    """What asks for it is told when the file is read."""
    by_value = {"neftune_noise_alpha", "include_num_input_tokens_seen", "parallelism_config"}
    known_later = {"optim", "metric_for_best_model"}
    assert set(STOCK_OPTIONS) == {*UNPACKED, *by_value, *known_later}
    losses = get_args(get_args(ApoFile.model_fields["loss_type"].annotation)[0])
    assert set(losses) - set(PAIR_LOSSES) == COUPLING
