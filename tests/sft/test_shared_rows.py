"""What keeps processes from sharing the rows of a supervised training."""

from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import ParallelismConfig
from helpers import TINY_SHAPE
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    BloomConfig,
    Gemma3TextConfig,
    Lfm2Config,
    LlamaConfig,
    MixtralConfig,
    Qwen3Config,
)
from trl import SFTConfig
from trl.trainer.utils import add_fused_lm_head

from apo_soup.config.shared_rows import Unshared
from apo_soup.models.document_attention import DOCUMENTS
from apo_soup.models.shared_rows import NotShared, RowSharing, SharedAttention
from sft.shared_rows import share_rows


def tiny(config_class=LlamaConfig, attention=None, **keys):
    torch.manual_seed(0)
    config = config_class(**TINY_SHAPE | {"vocab_size": 90, "pad_token_id": 0, "initializer_range": 0.2} | keys)
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).train()


def share(folder, model, size=2, parallel=None, experts=False, deepspeed=False, **changes):
    """Ask so many processes, of which this is the first, to share rows of packed documents."""
    add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
    arguments = SFTConfig(output_dir=str(folder), use_cpu=True, bf16=False, loss_type="nll", max_length=64)
    for name, value in changes.items():
        setattr(arguments, name, value)
    trainer = SimpleNamespace(
        model=model,
        args=arguments,
        accelerator=Accelerator(cpu=True, parallelism_config=parallel),
        is_deepspeed_enabled=deepspeed,
        aux_loss_enabled=experts,
    )
    share_rows(trainer, RowSharing(None, size, 0), packed=True)


@pytest.mark.parametrize("config", [LlamaConfig, Qwen3Config])
def test_models_that_attend_by_documents_share_rows(config, tmp_path):
    share(tmp_path, tiny(config))
    assert isinstance(AttentionInterface()[DOCUMENTS], SharedAttention)


@pytest.mark.parametrize(
    ("config", "keys", "changes", "reason"),
    [
        (LlamaConfig, {}, {"size": 4}, "a divisor of 2 (1, 2), the model's key-value heads"),
        (LlamaConfig, {}, {"use_liger_kernel": True}, "use_liger_kernel"),
        (LlamaConfig, {}, {"loss_type": "dft"}, "loss_type"),
        (LlamaConfig, {}, {"parallel": ParallelismConfig()}, "parallelism_config"),
        (LlamaConfig, {}, {"deepspeed": True}, "DeepSpeed"),
        (MixtralConfig, {"sliding_window": None}, {"experts": True}, "a router_aux_loss_coef above 0"),
        (LlamaConfig, {"attention": "eager"}, {}, "the attention eager"),
        (Gemma3TextConfig, {"sliding_window": 16}, {}, "sliding_window 16, and documents may be longer"),
        (BloomConfig, {"n_layer": 2, "n_head": 4}, {}, "BloomForCausalLM, whose attention cannot be set"),
        (
            Lfm2Config,
            {"layer_types": ["conv", "full_attention"] * 2, "block_auto_adjust_ff_dim": False},
            {},
            "conv layers",
        ),
    ],
)
def test_options_and_models_that_do_not_let_them_are_told(config, keys, changes, reason, tmp_path):
    with pytest.raises(NotShared) as refused:
        share(tmp_path, tiny(config, **keys), **changes)
    of_heads = "size" in changes
    expected = reason if of_heads else f"1 beside {reason}"
    way = "write one of those" if of_heads else "leave the key out, or train without that"
    assert refused.value.why == Unshared(expected, way)
