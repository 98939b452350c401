"""An LM head that FSDP2 shards by itself, on two CPU processes."""

import torch
from programs import succeeded, two_ranks


def test_the_gradient_of_a_sharded_head_is_the_mean_of_all_ranks(tmp_path):
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
