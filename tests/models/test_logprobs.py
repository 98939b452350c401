"""Log-probabilities of completions against a forward pass each."""

import random

import pytest
import torch
from transformers import AutoModelForCausalLM, MambaConfig, MambaForCausalLM

from apo_soup.models.logprobs import completion_logprobs, shared_logprobs


@pytest.fixture(scope="module")
def model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).eval()


def test_completion_logprobs_equal_a_forward_pass_each(model):
    generator = torch.Generator().manual_seed(0)
    items = [
        (
            torch.randint(5, 500, (p,), generator=generator).tolist(),
            torch.randint(5, 500, (c,), generator=generator).tolist(),
        )
        for p, c in ((3, 4), (20, 1), (7, 7), (1, 5))
    ]
    found = completion_logprobs(model, items, tokens_per_batch=40)
    for (prompt, completion), (total, count, greedy) in zip(items, found, strict=True):
        with torch.no_grad():
            scores = (
                model(torch.tensor([prompt + completion]), use_cache=False)
                .logits[0, len(prompt) - 1 : -1]
                .log_softmax(-1)
            )
        expected = scores.gather(1, torch.tensor(completion)[:, None]).sum().item()
        assert total == pytest.approx(expected, abs=1e-4)
        assert count == len(completion)
        assert greedy == (scores.argmax(-1).tolist() == completion)


def test_questions_about_one_text_score_as_they_do_alone(tiny_model):
    """The shared beginning is computed once; log-probabilities and greedy choices are those of whole sequences."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    generator = random.Random(0)

    def drawn(n):
        return [generator.randrange(10, 200) for _ in range(n)]

    text = drawn(40)
    items = [([*text, *drawn(n)], drawn(m)) for n, m in ((3, 2), (1, 1), (7, 4))]
    likely = items[0][0], [model(torch.tensor([items[0][0]])).logits[0, -1].argmax().item()]
    for asked in (items, [items[0], likely], [items[0]]):
        ours, plain = shared_logprobs(model, asked, 10**6), completion_logprobs(model, asked, 10**6)
        assert [o[1:] for o in ours] == [p[1:] for p in plain]
        assert [o[0] for o in ours] == pytest.approx([p[0] for p in plain], rel=1e-5)
    assert shared_logprobs(model, [items[0], likely], 10**6)[1][2], "greedy agrees with the likeliest token"
    assert shared_logprobs(model, items, 16) == completion_logprobs(model, items, 16), "tails that do not fit"
    with torch.no_grad():
        config = MambaConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1, state_size=4)
        recurrent = MambaForCausalLM(config).eval()
    assert len(shared_logprobs(recurrent, items, 10**6)) == 3, "a state that is no cache of keys and values"
