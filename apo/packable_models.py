"""Which models cannot be trained on packed pairs, by their configuration, without torch."""

from typing import Any

from apo_soup.models.positions import rope_by_length

# Keys by which models change their logits behind the LM head.
RESCALES = ("final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier")


def model_reason(text: Any) -> str | None:
    """Why a model cannot be trained on packed pairs, from its configuration (of its text part), or None."""
    for key in RESCALES:
        if getattr(text, key, None) not in (None, 1, 1.0):
            return f"a model with {key}"
    kinds = set(getattr(text, "layer_types", None) or ()) - {"full_attention"}
    window = getattr(text, "sliding_window", None) if getattr(text, "use_sliding_window", True) else None
    if window or getattr(text, "attention_chunk_size", None) or "sliding_attention" in kinds:
        return "a model with sliding-window attention"
    if kinds:
        return f"a model with {', '.join(sorted(kinds))} layers"
    if getattr(text, "num_experts", None) or getattr(text, "num_local_experts", None):
        return "a mixture-of-experts model"
    if getattr(text, "attention_dropout", 0.0):
        return "a model with attention_dropout"
    rope = rope_by_length(text)
    return f"a model with {rope} positions, which depend on the longest of a row" if rope else None
