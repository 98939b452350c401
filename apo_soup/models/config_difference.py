"""What makes equal weights compute different things: keys of two models' configurations.

Weights of two models are averaged, in a folder or in memory, under the configuration of the first. Where that of the
other means another function, the average belongs to neither.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

from apo_soup.models.rope import rope_difference
from apo_soup.models.whole_config import compared_configs

# Keys of config.json that change what equal weights compute.
ARCHITECTURE = (
    "architectures", "model_type", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "hidden_act", "rms_norm_eps", "attention_bias", "mlp_bias", "layer_types",
    "no_rope_layers", "sliding_window", "tie_word_embeddings", "vocab_size", "n_head", "n_layer", "n_embd",
    "activation_function", "hidden_activation", "layer_norm_epsilon", "layer_norm_eps", "logits_scaling", "logit_scale",
    "residual_multiplier", "embedding_multiplier", "attention_multiplier", "attn_logit_softcapping",
    "final_logit_softcapping", "query_pre_attn_scalar", "num_experts", "num_local_experts", "num_experts_per_tok",
    "mlp_only_layers", "use_sliding_window", "attention_chunk_size", "attention_types", "attention_layers",
    "layers_block_type", "alibi", "multi_query", "new_decoder_architecture", "parallel_attn", "use_parallel_residual",
    "partial_rotary_factor", "rotary_pct", "rotary_dim", "rope_interleave", "clip_qkv", "use_qk_norm", "norm_topk_prob",
    "routed_scaling_factor", "n_group", "topk_group", "first_k_dense_replace", "decoder_sparse_step", "scale_emb",
    "scale_depth", "scale_attn_weights", "scale_attn_by_inverse_layer_idx", "lm_head_multiplier",
)  # fmt: skip
# Of these, what null leaves to the others, or to the shapes of the tensors.
DERIVED = ("architectures", "head_dim", "num_key_value_heads", "intermediate_size")
# Keys that change no model that is merged and read.
HARMLESS_BEGINS = ("_", "transformers_", "torch_", "dtype", "use_cache", "initializer_", "output_", "pretraining_")
HARMLESS_ENDS = ("_token_id", "dropout", "_pdrop")
# Keys that are compared apart, or say what others say layer by layer.
COMPARED_APART = ("rope_", "max_window_layers", "no_rope_layer_interval")


def config_difference(
    first: Path, other: Path, where: str, aside: Collection[str] = ()
) -> tuple[str, Any, Any, str] | None:
    """The first key by which the configurations of two folders make equal weights compute something else, with both
    values and what to do; None where none does.

    Args:
        aside: keys that may differ.

    Raises:
        UserError: a configuration cannot be read, or is of another form.
    """
    return _difference(*compared_configs(first, other, where, _counts), aside)


def other_settings(first: Path, other: Path, where: str) -> list[tuple[str, Any, Any]]:
    """The other keys that two configurations have with different values, and both values: what is only a limit, say.

    Raises:
        UserError: a configuration cannot be read, or is of another form.
    """
    one, two = compared_configs(first, other, where, _counts)
    names = filter(_counts, sorted((one.keys() & two.keys()) - set(ARCHITECTURE)))
    told = [name for name in names if not name.startswith(COMPARED_APART) and not isinstance(one[name], dict)]
    return [(name, one[name], two[name]) for name in told if one[name] != two[name]]


def worded(value: Any) -> str:
    """A value of a configuration as a sentence has it."""
    return "none" if value is None else str(value)


def _difference(one: dict[str, Any], other: dict[str, Any], aside: Collection[str]) -> tuple[str, Any, Any, str] | None:
    """The same of two configurations. Of a model of several parts, such as one with a vision tower, each part is looked
    at.
    """
    for key in (key for key in ARCHITECTURE if key in one and key in other and key not in aside):
        derived = key in DERIVED and None in (one[key], other[key])
        if one[key] != other[key] and not derived:
            resize = "resize both alike, or name the result's tokens with mergekit's key tokenizer_source"
            return key, one[key], other[key], resize if key == "vocab_size" else "merge models of one architecture"
    rope = rope_difference(one, other)
    if rope:
        return *rope, "merge models of one rope, and scale the result with long_context"
    for part in sorted(key for key in one.keys() & other.keys() if key.endswith("_config")):
        if isinstance(one[part], dict) and isinstance(other[part], dict):
            found = _difference(one[part], other[part], aside)
            if found:
                return f"{part}.{found[0]}", *found[1:]
    return None


def _counts(key: str) -> bool:
    """Whether a key of a configuration may change what a model computes."""
    return not (key.startswith(HARMLESS_BEGINS) or key.endswith(HARMLESS_ENDS))
