"""Log-probabilities of packed pairs against plain sequences, values and gradients."""

import random

import pytest
import torch
from apo_helpers import tiny_model_of

from apo.packed_pairs import pack_pairs
from apo.pair_attention import PAIRS, register_pair_attention
from apo.scoring import add_scoring, answer_logprobs


@pytest.mark.parametrize("kind", ["smollm3", "llama", "qwen3"])
@pytest.mark.parametrize("attention", ["sdpa", "flex_attention", PAIRS])
def test_log_probabilities_equal_those_of_separate_sequences(kind, attention):
    """Chosen and rejected of three packed pairs; FlexAttention has no backward pass on CPU, its forward is enough."""
    model = tiny_model_of(kind)
    generator = random.Random(1)
    pairs = [
        tuple([generator.randrange(2, 300) for _ in range(n)] for n in lengths)
        for lengths in ((9, 5, 7), (1, 3, 2), (14, 1, 9))
    ]
    alone = []
    with torch.no_grad():
        for prompt, *answers in pairs:
            for answer in answers:
                ids = torch.tensor([[*prompt, *answer]])
                scores = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
                alone.append(scores.gather(1, torch.tensor(answer)[:, None]).sum())
        register_pair_attention()
        model.set_attn_implementation(attention)
        add_scoring(model)
        row = pack_pairs(pairs)
        packed = answer_logprobs(model, row, attention)
    assert packed.shape == (3, 2)
    torch.testing.assert_close(packed.flatten(), torch.stack(alone), rtol=1e-5, atol=1e-5)
