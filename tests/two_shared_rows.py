"""Rows that two processes share, computed beside the whole rows; a rank of two runs it and fails where they differ."""

import pytest
import torch
import torch.distributed as dist
from apo_helpers import tiny_model_of

from apo.packed_pairs import PairIds, pack_pairs
from apo.pair_attention import PAIRS, register_pair_attention
from apo.scoring import add_scoring, answer_logprobs
from apo_soup.models.document_attention import attend_by_documents, stand_in_mask
from apo_soup.models.shared_rows import RowSharing, SharedAttention, SharedRow, share_attention

KINDS = ("smollm3", "llama", "qwen3")


def gradients(model):
    """Of a model's weights, added up over the processes."""
    found = {}
    for name, weight in model.named_parameters():
        grad = torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
        found[name] = grad
        weight.grad = None
    return found


def summed(found):
    for tensor in found.values():
        dist.all_reduce(tensor)
    return found


def assert_same(ours, expected):
    for name, tensor in ours.items():
        torch.testing.assert_close(
            tensor, expected[name], atol=1e-5, rtol=1e-4, msg=lambda told, name=name: f"{name}: {told}"
        )


def documents(sharing):
    """Hidden states of a row of three documents, 11 places, and the gradient of a sum of them."""
    for kind in KINDS:
        model = tiny_model_of(kind)
        attend_by_documents(model)
        share_attention(model)
        lengths = [5, 2, 4]
        ids = torch.arange(20, 31)[None]
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        given = {"attention_mask": stand_in_mask("cpu"), "document_lengths": lengths, "use_cache": False}
        whole = model.base_model(input_ids=ids, position_ids=positions, **given).last_hidden_state
        weights = torch.linspace(-1, 1, whole.numel()).view_as(whole)
        (whole * weights).sum().backward()
        expected = gradients(model)
        row = SharedRow(sharing, 11)
        out = model.base_model(
            input_ids=row.own(ids), position_ids=row.own(positions), shared_row=row, **given
        ).last_hidden_state
        own = slice(6 * sharing.number, min(11, 6 * sharing.number + 6))
        out = out[:, : own.stop - own.start]
        torch.testing.assert_close(out, whole[:, own], atol=1e-5, rtol=1e-5)
        (out * weights[:, own]).sum().backward()
        assert_same(summed(gradients(model)), expected)
        assert row.attended == model.config.num_hidden_layers


def pairs(sharing):
    """Log-probabilities of pairs, and the gradient of a sum of them; in the last row one process has nothing scored."""
    rows = [[([3, 4, 5], [6, 7], [8, 9, 10]), ([11, 12], [13], [14, 15])], [(list(range(5, 25)), [6], [7])]]
    for attention in (PAIRS, "sdpa"):
        model = tiny_model_of("smollm3")
        register_pair_attention()
        model.set_attn_implementation(attention)
        add_scoring(model)
        share_attention(model)
        for of_row in rows:
            row = pack_pairs([PairIds(*pair) for pair in of_row])
            weights = torch.arange(2.0 * len(of_row)).view(-1, 2) - 0.5
            whole = answer_logprobs(model, row, attention)
            (whole * weights).sum().backward()
            expected = gradients(model)
            logps = answer_logprobs(model, row, attention, sharing)
            torch.testing.assert_close(logps, whole, atol=1e-5, rtol=1e-5)
            (logps * weights).sum().backward()
            assert_same(summed(gradients(model)), expected)


def refused(sharing):
    """Heads that two do not divide, an attention that is never told, and one that reads more of each head."""
    row = SharedRow(sharing, 4)
    with pytest.raises(ValueError, match="heads in a multiple of the 2 processes that share a row, got 3"):
        row.all_places(torch.zeros(1, 3, 2, 8))
    with pytest.raises(ValueError, match="one that keeps it"):
        row.check_attended()
    attention = SharedAttention(lambda *_, **__: None)
    with pytest.raises(ValueError, match="an attention of queries, keys and values alone, got s_aux too"):
        attention(None, *[torch.zeros(1, 2, 2, 8)] * 3, None, row, s_aux=torch.zeros(2))


dist.init_process_group("gloo")
group, _ = dist.new_subgroups(group_size=2)
mine = RowSharing(group, 2, dist.get_rank())
documents(mine)
pairs(mine)
refused(mine)
dist.barrier()
dist.destroy_process_group()
