"""Log-probabilities of completions against a forward pass each."""

import copy
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


def test_a_long_neighbour_does_not_turn_a_short_text_s_positions(tiny_model):
    """Dynamic rotary positions follow the longest text of a batch, and of all that the model has read before."""
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10_000.0}
    model = AutoModelForCausalLM.from_pretrained(
        tiny_model, dtype=torch.float32, max_position_embeddings=16, rope_parameters=rope
    ).eval()
    items = [(list(range(5, 5 + n)), [7, 9]) for n in (12, 20, 20, 61)]
    fresh = [copy.deepcopy(model) for _ in items]
    alone = [completion_logprobs(m, [item], 10**6)[0].logprob for m, item in zip(fresh, items, strict=True)]
    for order in ([0, 1, 2, 3], [3, 0, 2, 1]):
        found = completion_logprobs(model, [items[n] for n in order], 10**6)
        assert [s.logprob for s in found] == pytest.approx([alone[n] for n in order], abs=2e-5)


def test_questions_about_one_text_score_as_they_do_alone(tiny_model, monkeypatch):
    """The shared beginning is computed once; log-probabilities and greedy choices are those of whole sequences."""
    model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
    generator = random.Random(0)

    def drawn(n):
        return [generator.randrange(10, 200) for _ in range(n)]

    text = drawn(40)
    items = [([*text, *drawn(n)], drawn(m)) for n, m in ((3, 2), (1, 1), (7, 4))]
    likely = items[0][0], [model(torch.tensor([items[0][0]])).logits[0, -1].argmax().item()]
    answers = [(drawn(9), drawn(5)), (drawn(9), drawn(30))]
    groups = [items, [items[0], likely], [items[0]], answers]
    plain = [completion_logprobs(model, group, 10**6) for group in groups]
    for tokens in (10**6, 130, 64):
        same_scores(shared_logprobs(model, groups, tokens), plain)
    monkeypatch.setattr("apo_soup.models.logprobs.LONGEST_DENSE_MASK", 41)
    same_scores(shared_logprobs(model, groups, 10**6), plain)
    assert shared_logprobs(model, groups, 10**6)[1][1].greedy, "greedy agrees with the likeliest token"
    same_scores(shared_logprobs(model, groups[:1], 12), plain[:1])  # tails that do not fit
    model.set_attn_implementation("eager")
    same_scores(shared_logprobs(model, groups, 10**6), plain)


def same_scores(ours, plain):
    for group, expected in zip(ours, plain, strict=True):
        assert [score[1:] for score in group] == [score[1:] for score in expected]
        assert [s.logprob for s in group] == pytest.approx([s.logprob for s in expected], rel=1e-5)


def test_a_recurrent_model_scores_every_item_alone():
    with torch.no_grad():
        config = MambaConfig(vocab_size=300, hidden_size=16, num_hidden_layers=1, state_size=4)
        recurrent = MambaForCausalLM(config).eval()
    items = [([5, 6, 7, 8], [9]), ([5, 6, 9], [1, 2])]
    same_scores(shared_logprobs(recurrent, [items], 10**6), [completion_logprobs(recurrent, items, 10**6)])
