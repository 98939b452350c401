"""The parts of the GPU's benchmark, at small sizes on this machine; what a GPU alone shows is not seen here."""

import json

import pytest
import torch
from apo_helpers import tiny_model_of

from apo.attention_mask import dense_mask
from apo.packed_pairs import PairIds, pack_pairs
from apo.scoring import add_scoring, answer_logprobs
from bench.gpu.compilations import compilations
from bench.gpu.parity import parity
from bench.gpu.planned import planned_over
from bench.gpu.speed import speed
from bench.gpu.trainers import unshared
from bench.gpu.work import ON_CPU, chats_of, operations_of_pairs, pairs_of

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here: run python -m bench.gpu")


def test_every_attention_computes_what_sdpa_does_in_float32():
    found = parity(ON_CPU)
    for stage in ("apo", "sft"):
        for line in found[stage]:
            most = 1e-5 if line["precision"] == "float32" else 2e-2
            assert line["loss_off"] < most, line
            assert line["gradients_off"] < most, line
    assert found["first_step"] == {name: {"loss": 1.0, "margin": 0.0} for name in ("float32", "bf16")}
    assert {line["attention"] for line in found["apo"]} == {"sdpa", "sdpa_of_pairs"}


def test_nothing_is_compiled_under_sdpa():
    found = compilations(ON_CPU)
    assert (found["rows"], found["graphs"]) == (4, 0)
    assert found["lengths"] > 1


def test_every_contestant_trains_and_the_work_is_one(capsys):
    lines = speed(ON_CPU, ["apo", "sft"])["lines"]
    assert [(line["stage"], line["contestant"], line["weights"]) for line in lines] == [
        ("apo", "ours", "float32"), ("apo", "ours", "bfloat16"), ("apo", "unshared", "float32"),
        ("apo", "stock", "float32"), ("sft", "ours", "float32"), ("sft", "ours", "bfloat16"),
        ("sft", "packed", "float32"), ("sft", "padded", "float32"),
    ]  # fmt: skip
    assert all(line["fits"] and line["step_seconds"] > 0 and 0 < line["utilisation"] < 1 for line in lines)
    assert len({json.dumps(line["steps_work"]) for line in lines if line["stage"] == "apo"}) == 1


def test_a_plan_over_eight_gpus_needs_no_weights():
    assert 0 < planned_over(8, ON_CPU, "apo", 96) < 1_000


def test_pairs_apart_score_as_pairs_together_and_see_their_own_sequence():
    pairs = [PairIds([11, 12, 13], [21, 22], [31]), PairIds([14], [24], [34, 35])]
    row = pack_pairs(pairs)
    apart = unshared(row)
    assert apart.input_ids.tolist() == [11, 12, 13, 21, 22, 11, 12, 13, 31, 14, 24, 14, 34, 35]
    assert apart.position_ids.tolist() == [0, 1, 2, 3, 4, 0, 1, 2, 3, 0, 1, 0, 1, 2]
    lengths = [5, 4, 2, 3]
    blocks = torch.block_diag(*(torch.ones(n, n).tril() for n in lengths)).bool()
    assert torch.equal(dense_mask(apart), blocks)
    model = tiny_model_of("llama")
    add_scoring(model)
    with torch.no_grad():
        together, separate = (answer_logprobs(model, each, "sdpa") for each in (row, apart))
    torch.testing.assert_close(separate, together)


def test_rows_have_their_lengths_and_operations_count_a_prompt_once():
    pairs = pairs_of(20, 80, 100)
    assert all(6 <= sum(map(len, pair.values())) <= 80 for pair in pairs)
    assert sum(len(chat["input_ids"]) for chat in chats_of(3, 200, 100)) in range(600, 604)
    config = tiny_model_of("smollm3").config
    pair = {"prompt_ids": [1] * 4, "chosen_ids": [1] * 2, "rejected_ids": [1] * 3}
    heads, kv, size, inner = (
        getattr(config, name)
        for name in ("num_attention_heads", "num_key_value_heads", "hidden_size", "intermediate_size")
    )
    head = size // heads
    weights = 2 * size * head * (heads + kv) + 3 * size * inner
    seen = 8 + (8 + 2) + (12 + 4.5)
    layers = config.num_hidden_layers * (2 * weights * 9 + 4 * heads * head * seen)
    assert operations_of_pairs(config, [pair]) == 3 * (layers + 2 * size * config.vocab_size * 5)
