"""The LM head in tiles against the whole of it: values and gradients."""

import pytest
import torch
from programs import succeeded, two_ranks
from trl.kernels import ChunkedLogProbFunction

from apo_soup.models.lm_head import CACHED_LOGITS, LogitRule, tiled_logprobs, tiled_scores

RULES = [LogitRule(), LogitRule(0.25), LogitRule(cap=3.0), LogitRule(0.5, 2.0)]


def tensors(generator, count=37, width=50):
    return [torch.randn(*shape, generator=generator) for shape in ((count, 8), (width, 8), (width,))]


@pytest.mark.parametrize("tile", [1, 5, 36, 37, 100])
@pytest.mark.parametrize("biased", [False, True])
def test_tiles_change_neither_values_nor_gradients(tile, biased):
    generator = torch.Generator().manual_seed(0)
    start = tensors(generator)
    targets = torch.randint(0, 50, (37,), generator=generator)
    found = []
    for tiled in (True, False):
        hidden, weight, bias = (t.clone().requires_grad_() for t in start)
        if tiled:
            values = tiled_logprobs(hidden, weight, bias if biased else None, targets, tile)
        else:
            logits = torch.nn.functional.linear(hidden, weight, bias if biased else None)
            values = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
        (values * torch.linspace(-1, 1, 37)).sum().backward()
        found.append((values.detach(), hidden.grad, weight.grad, bias.grad))
    for ours, plain in zip(*found, strict=True):
        torch.testing.assert_close(ours, plain)


@pytest.mark.parametrize("function", [tiled_logprobs, lambda *given: tiled_scores(*given[:4], tile=given[4]).logprobs])
def test_tiles_leave_a_frozen_head_alone_and_follow_autocast(function):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(50, 8, generator=generator)
    hidden = torch.randn(9, 8, generator=generator).requires_grad_()
    targets = torch.arange(9)
    function(hidden, weight, None, targets, 4).sum().backward()
    assert weight.grad is None
    whole = hidden.grad.clone()
    hidden.grad, moving = None, weight.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        values = function(hidden, moving, None, targets, 4)
    assert values.dtype == torch.float32
    values.sum().backward()
    assert hidden.grad.dtype == moving.grad.dtype == torch.float32
    assert not torch.equal(hidden.grad, whole)
    torch.testing.assert_close(hidden.grad, whole, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("tile", [1, 10, 100])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("biased", [False, True])
def test_scores_and_their_gradients_are_those_of_trl(tile, rule, even, biased):
    """Of a loss that weighs all tokens alike, and of one that does not."""
    generator = torch.Generator().manual_seed(1)
    start = tensors(generator)
    targets = torch.randint(0, 50, (37,), generator=generator)
    weights = torch.full((37,), -0.013) if even else torch.linspace(-1, 1, 37)
    found = []
    for ours in (True, False):
        hidden, weight, bias = (t.clone().requires_grad_() for t in start)
        if ours:
            scores = tiled_scores(hidden, weight, bias if biased else None, targets, rule, tile)
            values = (scores.logprobs, scores.entropy, scores.is_top1)
        else:
            names = ("log_probs", "entropy", "is_top1")
            given = (hidden, weight, bias if biased else None, targets, 1.0, 17, rule.cap, rule.scale, names)
            logprobs, entropy, _, _, is_top1 = ChunkedLogProbFunction.apply(*given)
            values = (logprobs, entropy, is_top1)
        (values[0] * weights).sum().backward()
        found.append([*(value.detach() for value in values), hidden.grad, weight.grad, bias.grad])
    assert 0 < found[0][2].sum() < 37
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_rows_that_are_scored_a_few_at_a_time_are_all_scored():
    """More logits than are in the cache at once, which take several rounds with a last one that is not full."""
    generator = torch.Generator().manual_seed(2)
    width = CACHED_LOGITS // 4
    hidden, weight = torch.randn(11, 4, generator=generator), torch.randn(width, 4, generator=generator)
    targets = torch.randint(0, width, (11,), generator=generator)
    scores = tiled_scores(hidden, weight, None, targets, tile=7)
    logprobs = (hidden.double() @ weight.double().T).log_softmax(1)
    close = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(scores.logprobs, logprobs.gather(1, targets[:, None])[:, 0].float(), **close)
    torch.testing.assert_close(scores.entropy, -(logprobs.exp() * logprobs).sum(1).float(), **close)


def test_of_equal_logits_the_first_is_the_likeliest():
    hidden, weight = torch.ones(3, 1), torch.tensor([[1.0], [3.0], [3.0]])
    assert tiled_scores(hidden, weight, None, torch.tensor([0, 1, 2])).is_top1.tolist() == [False, True, False]


def test_far_apart_logits_are_scored_to_the_last_digit():
    """A token of probability zero in float32 has its log-probability all the same."""
    weight = torch.tensor([[0.0], [400.0], [399.0]])
    scores = tiled_scores(torch.ones(3, 1), weight, None, torch.tensor([0, 1, 2]))
    normaliser = 400 + torch.tensor(1 + torch.e**-1).log()
    torch.testing.assert_close(scores.logprobs, weight[:, 0] - normaliser)


def test_a_graph_that_is_kept_gives_the_same_gradients_again():
    generator = torch.Generator().manual_seed(3)
    hidden, weight, _ = (t.requires_grad_() for t in tensors(generator))
    loss = -tiled_scores(hidden, weight, None, torch.arange(37), tile=9).logprobs.mean()
    first = torch.autograd.grad(loss, (hidden, weight), retain_graph=True)
    kept = [gradient.clone() for gradient in first]
    again = torch.autograd.grad(loss, (hidden, weight))
    for one, two in zip(kept, again, strict=True):
        torch.testing.assert_close(one, two)


def test_nothing_is_kept_for_a_backward_pass_that_cannot_come():
    generator = torch.Generator().manual_seed(4)
    hidden, weight, _ = (t.requires_grad_() for t in tensors(generator))
    with torch.no_grad():
        scores = tiled_scores(hidden, weight, None, torch.arange(37))
    assert not scores.logprobs.requires_grad
    assert torch.equal(scores.logprobs, tiled_scores(hidden, weight, None, torch.arange(37)).logprobs)


def test_entropies_under_autocast_are_computed_in_float32():
    generator = torch.Generator().manual_seed(0)
    hidden, weight, _ = tensors(generator)
    targets = torch.randint(0, 50, (37,), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        found = tiled_scores(hidden, weight, None, targets).entropy
    logits = (hidden.bfloat16() @ weight.bfloat16().T).float()
    torch.testing.assert_close(found, torch.distributions.Categorical(logits=logits).entropy())


def test_the_gradient_of_a_sharded_head_is_the_mean_of_all_ranks(tmp_path):
    """Where FSDP2 shards it by itself."""
    file = tmp_path / "ranks.py"
    file.write_text(RANKS)
    succeeded(two_ranks(file, tmp_path / "found.pt").wait())
    found = torch.load(tmp_path / "found.pt")
    torch.testing.assert_close(found["sharded"], found["whole"])
    assert float(found["whole"].abs().max()) > 0.01


RANKS = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from apo_soup.models.lm_head import tiled_logprobs, tiled_scores, whole

dist.init_process_group("gloo")
torch.manual_seed(0)
head, hidden, targets = torch.nn.Linear(6, 11, bias=True), torch.randn(2, 5, 6), torch.randint(11, (2, 5))
plain = [head.weight.detach().clone().requires_grad_(), head.bias.detach().clone().requires_grad_()]
fully_shard(head, mesh=init_device_mesh("cpu", (2,)))
rank = dist.get_rank()
scores = tiled_scores(hidden[rank], whole(head.weight), whole(head.bias), targets[rank])
(-scores.logprobs.sum()).backward()
sum(-tiled_logprobs(hidden[of], *plain, targets[of]).sum() / 2 for of in range(2)).backward()
sharded = torch.cat([head.weight.grad.full_tensor(), head.bias.grad.full_tensor()[:, None]], 1)
if rank == 0:
    torch.save({"sharded": sharded, "whole": torch.cat([plain[0].grad, plain[1].grad[:, None]], 1)}, sys.argv[1])
dist.barrier()
dist.destroy_process_group()
"""
