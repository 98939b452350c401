"""Attention of each pair by itself against that of a whole row under its mask."""

import random

import pytest
import torch
from apo_helpers import tiny_model_of

from apo.attention_mask import dense_mask
from apo.packed_pairs import PairIds, pack_pairs
from apo.pair_attention import PAIRS, lower_right, pair_parts, register_pair_attention
from apo.scoring import add_scoring, answer_logprobs

# Tokens of prompt, chosen and rejected: one of a prompt, which is not shared; answers longer than it and shorter.
LENGTHS = ((9, 5, 12), (1, 3, 2), (30, 1, 4), (14, 20, 9))


def row_of(lengths, vocabulary=300):
    generator = random.Random(2)
    parts = ([[generator.randrange(2, vocabulary) for _ in range(n)] for n in of_pair] for of_pair in lengths)
    return pack_pairs([PairIds(*of_pair) for of_pair in parts])


def test_the_parts_of_a_row_are_its_prompts_and_branches():
    assert pair_parts(row_of(LENGTHS)) == [[8, 6, 13], [0, 4, 3], [29, 2, 5], [13, 21, 10]]


def test_a_branch_sees_the_prompt_and_itself_up_to_each_position():
    """The rejected branch of the third pair, as the mask of the row has it."""
    row = row_of(LENGTHS[2:3])
    seen = dense_mask(row)[31:]  # its queries; keys are the prompt, the chosen branch, the rejected one
    assert not seen[:, 29:31].any()
    assert torch.equal(lower_right(5, 29, seen.device)[0, 0], torch.cat((seen[:, :29], seen[:, 31:]), 1))


@pytest.mark.parametrize("kind", ["smollm3", "llama", "qwen3"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_values_and_gradients_are_those_of_the_masked_row(kind, checkpointing):
    """With the activations of layers computed again in the backward pass too, outside the model's own call."""
    register_pair_attention()
    found = []
    for attention in (PAIRS, "sdpa"):
        model = tiny_model_of(kind).train()
        model.set_attn_implementation(attention)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        add_scoring(model)
        logprobs = answer_logprobs(model, row_of(LENGTHS), attention)
        (logprobs * torch.linspace(-1, 1, 8).view(4, 2)).sum().backward()
        found.append((logprobs.detach(), {name: p.grad for name, p in model.named_parameters()}))
    (ours, gradients), (masked, of_masked) = found
    torch.testing.assert_close(ours, masked, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, of_masked[name], rtol=1e-3, atol=1e-4, msg=name)


def test_a_mask_of_a_layers_own_is_refused_and_not_dropped():
    register_pair_attention()
    model = tiny_model_of("llama")
    model.set_attn_implementation(PAIRS)
    add_scoring(model)

    def biased(_, given, named):
        width = named["hidden_states"].shape[1]
        return given, named | {"attention_mask": torch.zeros(1, 1, width, width)}

    model.model.layers[0].self_attn.register_forward_pre_hook(biased, with_kwargs=True)
    with pytest.raises(ValueError, match="expected no mask in its layers, got one of "):
        answer_logprobs(model, row_of(LENGTHS), PAIRS)
