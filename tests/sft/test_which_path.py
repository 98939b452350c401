"""Options and models that the loss of trained places does not know run as TRL has it, and say so."""

import shutil
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import ParallelismConfig
from helpers import TINY_SHAPE, TRAINING, chat
from programs import program, run_ok
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3TextConfig,
    GptOssConfig,
    JambaConfig,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    MixtralConfig,
    OPTConfig,
    Qwen2Config,
    Qwen3Config,
    SmolLM3Config,
)
from trl import SFTConfig
from trl.trainer.utils import add_fused_lm_head

from apo_soup.models.document_attention import attend_by_documents
from apo_soup.private import attention_implementation
from sft import which_path
from sft.documents_alone import documents_reason
from sft.trained_places import add_trained_places
from sft.which_path import (
    DocumentsMixed,
    kept_apart,
    mixing_fault,
    probe_fault,
    trl_reason,
    use_trained_places,
)

ROWS = [chat(f"What is {a} + 1?", f"It is {a + 1}") for a in range(20)]


class DeepSpeed(NamedTuple):
    """Its plugin, which is not installed here."""

    zero_stage: int


def tiny(config_class=LlamaConfig, **keys):
    torch.manual_seed(0)
    config = config_class(**TINY_SHAPE | {"vocab_size": 90, "pad_token_id": 0, "initializer_range": 0.2} | keys)
    return AutoModelForCausalLM.from_config(config).train()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"loss_type": "dft"}, "loss_type"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
        ({"neftune_noise_alpha": 5.0}, "neftune_noise_alpha"),
        ({"torch_compile": True}, "torch_compile"),
        ({"use_liger_kernel": True}, "use_liger_kernel"),
        ({"deepspeed_plugin": DeepSpeed(3)}, "DeepSpeed ZeRO-3, whose head is whole inside its own forward alone"),
        ({"deepspeed_plugin": DeepSpeed(2)}, None),
    ],
)
def test_options_that_trl_carries_out_by_itself(changes, reason, tmp_path):
    arguments = SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, loss_type="nll")
    for name, value in changes.items():
        setattr(arguments, name, value)
    assert trl_reason(arguments, tiny()) == reason


@pytest.mark.parametrize(
    ("config", "longest", "reason"),
    [
        (SmolLM3Config(), None, None),
        (LlamaConfig(), None, None),
        (MixtralConfig(sliding_window=None), None, None),
        (MistralConfig(sliding_window=4096), 4096, None),
        (MistralConfig(sliding_window=4096), 4097, "sliding_window 4,096, and documents may be longer"),
        (MistralConfig(sliding_window=4096), None, "sliding_window 4,096, and documents may be longer"),
        (Qwen2Config(sliding_window=128), 4096, None),  # not used
        (
            Qwen2Config(use_sliding_window=True, sliding_window=128, max_window_layers=2),
            4096,
            "sliding_window 128, and documents may be longer",
        ),
        (Gemma3TextConfig(sliding_window=512), 512, None),
        (Gemma3TextConfig(sliding_window=512), 513, "sliding_window 512, and documents may be longer"),
        (
            LlamaConfig(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}),
            None,
            "dynamic positions, which depend on the longest of a batch",
        ),
    ],
)
def test_models_whose_documents_are_not_attended_to_alone(config, longest, reason):
    assert documents_reason(config, longest) == reason


def probed(model, change=lambda model: None, exact=True):
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    stock = model.forward
    attend_by_documents(model)
    add_trained_places(model, tiles=True)
    change(model)
    fault = probe_fault(model, model.forward, stock, exact, True)
    assert model.training
    return fault


def test_a_model_that_computes_the_same_both_ways_passes_the_probe_and_is_left_as_it_was():
    model = tiny()
    torch.manual_seed(5)
    assert probed(model) is None
    assert attention_implementation(model.config) == "sdpa_of_documents"
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(torch.rand(3), drawn)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_that_looks_at_neighbouring_documents_is_found_out():
    """Its layers shift their input by a place of the row, whoever that place belongs to."""

    def shifting(model):
        model.model.layers[0].register_forward_pre_hook(lambda _, given: (given[0] + given[0].roll(1, 1), *given[1:]))

    assert probed(tiny(), shifting).startswith("a model whose log-probabilities differ (")


def test_a_model_that_changes_its_logits_in_a_way_of_its_own_is_found_out():
    """One that TRL knows and our rule would not: here the rule is read, and then the number changed."""
    model = tiny()
    model.config.logit_scale = 0.5
    add_fused_lm_head(model)
    stock = model.forward
    model.config.logit_scale = None
    add_trained_places(model, tiles=True)
    assert probe_fault(model, model.forward, stock, True, True).startswith("a model whose log-probabilities differ (")


def test_a_model_that_takes_no_other_arguments_is_found_out():
    def narrow(model):
        def refusing(*args, document_lengths=None, **kwargs):
            if document_lengths is not None:
                raise TypeError("unexpected keyword")
            return layers(*args, **kwargs)

        layers, model.model.forward = model.model.forward, refusing

    expected = "a model that does not take packed documents by themselves (unexpected keyword)"
    assert probed(tiny(), narrow) == expected


def ways(folder, model, packed, parallel=None, **changes):
    """What a trainer of this model is told, and the model's attention behind it."""
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    arguments = SFTConfig(output_dir=str(folder), use_cpu=True, bf16=False, loss_type="nll", max_length=64)
    accelerator = Accelerator(cpu=True, parallelism_config=parallel)
    for name, value in changes.items():
        setattr(arguments, name, value)
    return use_trained_places(SimpleNamespace(model=model, args=arguments, accelerator=accelerator), packed)


MIXING = {
    "lfm2": (Lfm2Config, {"layer_types": ["conv", "full_attention"] * 2, "block_auto_adjust_ff_dim": False}),
    "jamba": (JambaConfig, {"use_mamba_kernels": False, "mamba_dt_rank": 4, "num_experts": 2}),
    "gpt_oss": (GptOssConfig, {"num_local_experts": 4, "layer_types": ["full_attention"] * 4, "head_dim": 8}),
    "bloom": (BloomConfig, {"n_layer": 2, "n_head": 4}),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", MIXING)
def test_a_model_whose_packed_documents_see_each_other_is_refused_and_runs_unpacked(kind, dtype, tmp_path):
    config, keys = MIXING[kind]
    with pytest.raises(DocumentsMixed, match=r"ForCausalLM, where a token of one has a log-probability of -"):
        ways(tmp_path, tiny(config, **keys).to(dtype), True)
    assert not any("TRL" in told for told in ways(tmp_path, tiny(config, **keys).to(dtype), False))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", [LlamaConfig, Qwen3Config, MixtralConfig])
def test_a_model_that_keeps_documents_apart_is_packed_whichever_way_it_is_computed(config, dtype, tmp_path):
    assert ways(tmp_path, tiny(config, sliding_window=None).to(dtype), True) == []
    told = ways(tmp_path, tiny(config, sliding_window=None).to(dtype), True, label_smoothing_factor=0.1)
    assert told == ["the loss is computed as TRL does, because of label_smoothing_factor"]


def test_documents_that_only_our_way_keeps_apart_are_packed_where_it_is_used(tmp_path):
    def opt():
        return tiny(OPTConfig, ffn_dim=64, word_embed_proj_dim=TINY_SHAPE["hidden_size"], init_std=0.2)

    assert ways(tmp_path, opt(), True) == []
    assert ways(tmp_path, opt(), False, loss_type="dft") == ["the loss is computed as TRL does, because of loss_type"]
    with pytest.raises(DocumentsMixed, match="OPTForCausalLM"):
        ways(tmp_path, opt(), True, loss_type="dft")


def test_on_a_gpu_blocks_take_the_place_of_a_mask_and_compute_the_same(monkeypatch):
    """Here FlexAttention runs forward alone; a GPU is not needed to see that documents stay apart."""
    monkeypatch.setattr(which_path, "is_triton_available", lambda: True)
    model = tiny(MistralConfig, sliding_window=4)
    add_fused_lm_head(model)
    assert kept_apart(model, "a window", None, "cpu") == [
        "packed documents are kept apart by a mask, because of a window"
    ]
    assert kept_apart(model, None, "loss_type", "cpu") == []
    assert attention_implementation(model.config) == "sdpa"
    told = kept_apart(model, None, "loss_type", "cuda")
    assert told == ["packed documents are kept apart by FlexAttention, because of loss_type"]
    assert attention_implementation(model.config) == "flex_attention"
    with torch.compiler.set_stance("force_eager"):  # compiling it takes longer
        assert mixing_fault(model.eval(), exact=True) is None
    assert kept_apart(model, "a window", None, "cuda") == []
    dropping = tiny(MistralConfig, sliding_window=4, attention_dropout=0.1)
    assert kept_apart(dropping, None, "loss_type", "cuda") == []  # FlexAttention does not drop
    bloom = tiny(BloomConfig, n_layer=1, n_head=2)
    assert kept_apart(bloom, None, "loss_type", "cuda") == []


def test_parallelism_that_accelerates_own_file_gives_runs_as_trl_has_it_and_never_mixes_documents(tmp_path):
    told = ["the loss is computed as TRL does, because of parallelism_config"]
    assert ways(tmp_path, tiny(), True, ParallelismConfig()) == told
    sequences = SimpleNamespace(cp_enabled=True)  # accelerate makes one on several processes alone
    trainer = SimpleNamespace(
        model=tiny(),
        args=SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False),
        accelerator=SimpleNamespace(parallelism_config=sequences),
    )
    with pytest.raises(DocumentsMixed, match="LlamaForCausalLM under context parallelism"):
        use_trained_places(trainer, True)


def test_a_stage_refuses_to_pack_for_a_model_that_mixes_documents(write_rows, write_recipe, tiny_model, tmp_path):
    """The tokenizer of one folder with the weights of another model."""
    folder = tmp_path / "mixing"
    shutil.copytree(tiny_model, folder, ignore=shutil.ignore_patterns("*.safetensors", "config.json"))
    stored = AutoConfig.from_pretrained(tiny_model)
    config, keys = MIXING["lfm2"]
    ids = {"eos_token_id": stored.eos_token_id, "pad_token_id": stored.pad_token_id}
    tiny(config, **keys, **ids, vocab_size=stored.vocab_size).save_pretrained(folder)
    values = TRAINING | {
        "model_name_or_path": str(folder),
        "output_dir": str(tmp_path / "out" / "sft"),
        "dataset_mixture": {"datasets": [{"id": str(write_rows("rows.jsonl", ROWS))}], "seed": 0},
        "packing": True,
        "max_steps": 1,
    }
    refused = program("-m", "sft", "--config", write_recipe("sft.yaml", values))
    assert refused.returncode == 2
    assert "packing: expected a model whose packed documents do not see each other, got Lfm2" in refused.stderr
    output = run_ok("-m", "sft", "--config", write_recipe("sft.yaml", values | {"packing": False}))
    assert "sft: padding is computed too, because of conv layers" in output


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ((), None),
        (("--label_smoothing_factor", "0.1"), "the loss is computed as TRL does, because of label_smoothing_factor"),
        (("--loss_type", "dft"), "the loss is computed as TRL does, because of loss_type"),
    ],
)
def test_a_stage_says_what_runs_as_trl_has_it(write_rows, write_recipe, tiny_model, tmp_path, words, line):
    rows = write_rows("rows.jsonl", ROWS)
    values = TRAINING | {
        "model_name_or_path": str(tiny_model),
        "output_dir": str(tmp_path / "out" / "sft"),
        "dataset_mixture": {"datasets": [{"id": str(rows)}], "seed": 0},
        "packing": True,
        "max_steps": 1,
    }
    output = run_ok("-m", "sft", "--config", write_recipe("sft.yaml", values), *words)
    assert (
        "because of" not in output.replace("because it has not run yet", "")
        if line is None
        else f"sft: {line}" in output
    )
